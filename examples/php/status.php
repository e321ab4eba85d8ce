<?php

// php status.php TRAN_ID

declare(strict_types=1);

require __DIR__ . '/SpeedSms.php';

if ($argc !== 2) {
    fwrite(STDERR, "usage: php status.php TRAN_ID\n");
    exit(2);
}

try {
    // Another scale than the webhook's, where 0 is delivered.
    $words = ['waiting', 'sent', 'delivered', 'failed'];
    foreach ((new SpeedSms())->status((int) $argv[1]) as $message) {
        echo "{$message['phone']} " . ($words[$message['status']] ?? $message['status']) . "\n";
    }
} catch (SpeedSmsError $error) {
    fwrite(STDERR, $error->getMessage() . "\n");
    exit(1);
}
