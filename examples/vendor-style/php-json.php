<?php

/*
 * Shape S1 of spec/protocol.md §5.2: POST, JSON, `sms_type` and `sender`, Basic TOKEN:x.
 * It proves that such programs keep working; new ones start from ../php/SpeedSms.php.
 *
 *     php php-json.php NUMBER TEXT
 */

$fields = ['to' => [$argv[1]], 'content' => $argv[2], 'sms_type' => 2, 'sender' => ''];
$curl = curl_init(getenv('SPEEDSMS_BASE_URL') . '/index.php/sms/send');
curl_setopt($curl, CURLOPT_POST, true);
curl_setopt($curl, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
curl_setopt($curl, CURLOPT_USERPWD, getenv('SPEEDSMS_TOKEN') . ':x');
curl_setopt($curl, CURLOPT_HTTPHEADER, ['Content-Type: application/json']);
curl_setopt($curl, CURLOPT_POSTFIELDS, json_encode($fields));
curl_setopt($curl, CURLOPT_TIMEOUT, 30);
curl_setopt($curl, CURLOPT_RETURNTRANSFER, true);
echo curl_exec($curl), "\n";
