<?php

// php voice.php NUMBER DIGITS: php voice.php 0912345678 493027

declare(strict_types=1);

require __DIR__ . '/SpeedSms.php';

if ($argc !== 3) {
    fwrite(STDERR, "usage: php voice.php NUMBER DIGITS\n");
    exit(2);
}

try {
    $sent = (new SpeedSms())->voice($argv[1], $argv[2]);
    echo "tranId {$sent['tranId']}: {$sent['totalPrice']} VND\n";
} catch (SpeedSmsError $error) {
    fwrite(STDERR, $error->getMessage() . "\n");
    exit($error instanceof SpeedSmsUnknown ? 5 : 1);
}
