<?php

/*
 * php pin.php create APP_ID NUMBER
 * php pin.php verify APP_ID NUMBER PIN
 */

declare(strict_types=1);

require __DIR__ . '/SpeedSms.php';

$step = [4 => 'create', 5 => 'verify'][$argc] ?? '';
if ($step === '' || $argv[1] !== $step) {
    fwrite(STDERR, "usage: php pin.php create APP_ID NUMBER | verify APP_ID NUMBER PIN\n");
    exit(2);
}

try {
    $sms = new SpeedSms();
    if ($step === 'create') {
        $sent = $sms->createPin($argv[3], 'Mã xác thực của bạn là {pin_code}', $argv[2]);
        echo "tranId {$sent['tranId']}: {$sent['totalPrice']} VND\n";
    } else {
        $check = $sms->verifyPin($argv[3], $argv[4], $argv[2]);
        echo $check['verified'] === true ? "verified\n" : "wrong, {$check['remainingAttempts']} tries left\n";
        exit($check['verified'] === true ? 0 : 1);
    }
} catch (SpeedSmsError $error) {
    fwrite(STDERR, $error->getMessage() . "\n");
    exit($error instanceof SpeedSmsUnknown ? 5 : 1);
}
