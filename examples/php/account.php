<?php

// php account.php

declare(strict_types=1);

require __DIR__ . '/SpeedSms.php';

try {
    $account = (new SpeedSms())->account();
    echo "{$account['email']}: {$account['balance']} {$account['currency']}\n";
} catch (SpeedSmsError $error) {
    fwrite(STDERR, $error->getMessage() . "\n");
    exit(1);
}
