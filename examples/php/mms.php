<?php

// php mms.php TEXT LINK DEVICE NUMBERS: php mms.php 'Xin chào' https://shop.example/a.jpg DEVICE 0912345678,0987654321

declare(strict_types=1);

require __DIR__ . '/SpeedSms.php';

if ($argc !== 5) {
    fwrite(STDERR, "usage: php mms.php TEXT LINK DEVICE NUMBERS\n");
    exit(2);
}

try {
    $sent = (new SpeedSms())->sendMms(explode(',', $argv[4]), $argv[1], $argv[2], $argv[3]);
    echo "tranId {$sent['tranId']}: {$sent['totalSMS']} accepted, {$sent['totalPrice']} VND\n";
} catch (SpeedSmsError $error) {
    fwrite(STDERR, $error->getMessage() . "\n");
    exit($error instanceof SpeedSmsUnknown ? 5 : 1);
}
