<?php

/*
 * Shape S10 of spec/protocol.md §5.2: GET, everything in the query, the token as `access-token`, `type`.
 * It proves that such programs keep working. Do not write a new one so: proxies and servers keep addresses in logs.
 *
 *     php php-get.php NUMBER TEXT
 */

$query = http_build_query([
    'access-token' => getenv('SPEEDSMS_TOKEN'),
    'to' => $argv[1],
    'content' => $argv[2],
    'type' => 2,
]);
$context = stream_context_create(['http' => ['timeout' => 30, 'ignore_errors' => true]]);
echo file_get_contents(getenv('SPEEDSMS_BASE_URL') . '/index.php/sms/send?' . $query, false, $context), "\n";
