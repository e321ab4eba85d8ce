<?php

/*
 * A receiver of reports and incoming messages; WEBHOOK_SECRET is the whsec_… of `speedsms webhook set`, or
 * several, separated by spaces.
 *
 *     php -S 127.0.0.1:9000 webhook.php
 */

declare(strict_types=1);

const TOLERANCE_S = 300;
const BODY_LIMIT = 65536;

/** Whether the gateway signed these bytes (Standard Webhooks), and not long ago. */
function genuine(
    #[\SensitiveParameter]
    string $secrets,
    string $id,
    string $timestamp,
    string $signatures,
    string $body
): bool {
    if ($id === '' || !ctype_digit($timestamp) || abs(time() - (int) $timestamp) > TOLERANCE_S) {
        return false;
    }
    foreach (explode(' ', $secrets) as $secret) {
        $key = strncmp($secret, 'whsec_', 6) === 0 ? base64_decode(substr($secret, 6), true) : '';
        if (strlen((string) $key) < 24) {
            throw new InvalidArgumentException('set WEBHOOK_SECRET'); // an empty key would let everybody in
        }
        $ours = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
        foreach (explode(' ', $signatures) as $theirs) { // several while a secret is changed
            if (hash_equals($ours, $theirs)) {
                return true;
            }
        }
    }
    return false;
}

/** Your work. The same $id may come again: keep it four days, with a unique index, and skip what you have seen. */
function received(string $id, array $event): void
{
    if ($event['type'] === 'report') {
        $status = $event['status'];
        $word = $status === 0 ? 'delivered' : ($status < 64 ? 'still trying' : 'failed');
        $line = "report $id: tranId {$event['tranId']} to {$event['phone']}: $word ($status)";
    } elseif ($event['type'] === 'sms') {
        // Quoted: strangers write these texts, and a line break in one would forge a line of the log.
        $line = "incoming $id: {$event['phone']}: " . json_encode($event['content'], JSON_UNESCAPED_UNICODE);
    } else {
        return; // of a later release
    }
    file_put_contents('php://stdout', "$line\n");
}

if ($_SERVER['REQUEST_METHOD'] !== 'POST') {
    http_response_code(405);
    exit;
}
$body = file_get_contents('php://input', false, null, 0, BODY_LIMIT + 1); // the very bytes that were signed
if (strlen($body) > BODY_LIMIT) {
    http_response_code(413);
    exit;
}
$signed = genuine(
    getenv('WEBHOOK_SECRET') ?: '',
    $_SERVER['HTTP_WEBHOOK_ID'] ?? '',
    $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '',
    $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '',
    $body
);
if (!$signed) {
    http_response_code(401);
    exit;
}
received($_SERVER['HTTP_WEBHOOK_ID'], json_decode($body, true, 8, JSON_THROW_ON_ERROR));
http_response_code(204); // within 15 s, or it is posted again: work that takes longer goes to a queue
