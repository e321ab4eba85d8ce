<?php

/*
 * php send.php TEXT NUMBERS [TYPE [SENDER [KEY]]]
 *
 *     php send.php 'Xin chào' 0912345678,0987654321            type 2: from a random long number
 *     php send.php 'Xin chào' 0912345678 3 MYSHOP              type 3: from your own brandname
 *     php send.php 'Mã của bạn: 493027' 0912345678 4 Verify    type 4: from a shared brandname, Verify or Notify
 *     php send.php 'Xin chào' 0912345678 5 DEVICE              type 5: from your Android device
 */

declare(strict_types=1);

require __DIR__ . '/SpeedSms.php';

if ($argc < 3) {
    fwrite(STDERR, "usage: php send.php TEXT NUMBERS [TYPE [SENDER [KEY]]]\n");
    exit(2);
}

try {
    $sms = new SpeedSms();
    $sent = $sms->send(explode(',', $argv[2]), $argv[1], (int) ($argv[3] ?? 2), $argv[4] ?? '', $argv[5] ?? null);
    echo "tranId {$sent['tranId']}: {$sent['totalSMS']} accepted, {$sent['totalPrice']} VND\n";
    foreach ($sent['invalidPhone'] as $phone) {
        echo "invalid: $phone\n";
    }
} catch (SpeedSmsRefused $error) {
    fwrite(STDERR, $error->getMessage() . "\n");
    foreach ($error->invalidPhone as $phone) {
        fwrite(STDERR, "invalid: $phone\n");
    }
    exit(1);
} catch (SpeedSmsUnknown $error) {
    // Say it to a person, or keep the key and try again later; with a new key it could arrive twice.
    fwrite(STDERR, $error->getMessage() . "\n");
    exit(5);
}
