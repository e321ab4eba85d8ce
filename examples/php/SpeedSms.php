<?php

/*
 * The SpeedSMS API in one file: copy it. Needs ext-curl and ext-json; no other package. Written for PHP 7.4 and newer.
 *
 *     $sms = new SpeedSms();                                  // SPEEDSMS_BASE_URL, SPEEDSMS_TOKEN
 *     $sent = $sms->send(['0912345678'], 'Xin chào', 2);
 *     echo $sent['tranId'];
 */

declare(strict_types=1);

abstract class SpeedSmsError extends RuntimeException
{
}

/** Certain: nothing was sent and nothing was charged. */
final class SpeedSmsRefused extends SpeedSmsError
{
    public string $apiCode;      // '300'; '0' if the answer is of HTTP alone
    public string $reason;       // 'balance': finer than the code, for programs; may be empty
    public int $httpStatus;
    public array $invalidPhone;  // as you wrote them

    public function __construct(int $httpStatus, array $reply, string $reason)
    {
        $this->apiCode = (string) ($reply['code'] ?? '0');
        $this->reason = $reason;
        $this->httpStatus = $httpStatus;
        $this->invalidPhone = $reply['invalidPhone'] ?? [];
        $what = $httpStatus === 200 ? "code {$this->apiCode}" : "HTTP $httpStatus";
        $why = $reason === '' ? '' : " ($reason)";
        parent::__construct("refused: $what$why: " . ($reply['message'] ?? ''));
    }
}

/** It may have been carried out: repeat the same call with this key, and nothing happens twice. */
final class SpeedSmsUnknown extends SpeedSmsError
{
    public ?string $key;

    public function __construct(string $why, ?string $key)
    {
        $this->key = $key;
        parent::__construct("unknown: $why" . ($key === null ? '' : "; repeat it with the key $key"));
    }
}

final class SpeedSms
{
    private const TRIES = 3;
    private const CONNECT_S = 5;
    private const TOTAL_S = 30;

    private string $baseUrl;
    private string $token;

    public function __construct(
        ?string $baseUrl = null,
        #[\SensitiveParameter]
        ?string $token = null
    ) {
        $this->baseUrl = rtrim($baseUrl ?? (getenv('SPEEDSMS_BASE_URL') ?: 'http://127.0.0.1:8100'), '/');
        $this->token = $token ?? (getenv('SPEEDSMS_TOKEN') ?: '');
        if ($this->token === '') {
            throw new InvalidArgumentException('set SPEEDSMS_TOKEN');
        }
        // Over plain HTTP everybody on the way reads the token.
        if (!preg_match('~\A(https://|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/|\z))~', $this->baseUrl)) {
            throw new InvalidArgumentException('SPEEDSMS_BASE_URL: use https:// (http:// only on this machine)');
        }
    }

    /** @return array{email: string, balance: int, currency: string} */
    public function account(): array
    {
        return $this->call('user/info');
    }

    /**
     * One text to at most 100 numbers.
     *
     * @param string[]    $to
     * @param string|null $key your own name of this sending, say "order-1234"; by default a new one
     * @return array{tranId: int, totalSMS: int, totalPrice: int, invalidPhone: string[]}
     */
    public function send(array $to, string $content, int $type = 2, string $sender = '', ?string $key = null): array
    {
        $fields = ['to' => array_values($to), 'content' => $content, 'sms_type' => $type, 'sender' => $sender];
        return $this->call('sms/send', $fields, $key ?? self::newKey());
    }

    /**
     * Read a code of 4 to 10 digits aloud.
     *
     * @return array{tranId: int, totalPrice: int, invalidPhone: string[]}
     */
    public function voice(string $to, string $digits, ?string $key = null): array
    {
        return $this->call('voice/otp', ['to' => $to, 'content' => $digits], $key ?? self::newKey());
    }

    /**
     * Send a PIN; {pin_code} in $content becomes it.
     *
     * @return array{tranId: int, totalPrice: int}
     */
    public function createPin(string $to, string $content, string $appId, ?string $key = null): array
    {
        $fields = ['to' => $to, 'content' => $content, 'app_id' => $appId];
        return $this->call('pin/create', $fields, $key ?? self::newKey());
    }

    /**
     * Look at 'verified' and at nothing else: a wrong PIN is answered with success too.
     *
     * @return array{pin: string, phone: string, verified: bool, remainingAttempts: int}
     */
    public function verifyPin(string $phone, string $pin, string $appId): array
    {
        return $this->call('pin/verify', ['phone' => $phone, 'pin_code' => $pin, 'app_id' => $appId]);
    }

    /** @return array<array{phone: string, status: int}> 0 waiting, 1 sent, 2 delivered, 3 failed */
    public function status(int $tranId): array
    {
        return $this->call("sms/status/$tranId");
    }

    /**
     * A text with a link to a picture, through an Android device.
     *
     * @param string[] $to
     * @return array{tranId: int, totalSMS: int, totalPrice: int, invalidPhone: string[]}
     */
    public function sendMms(array $to, string $content, string $link, string $device, ?string $key = null): array
    {
        $fields = ['to' => array_values($to), 'content' => $content, 'link' => $link, 'sender' => $device];
        return $this->call('mms/send', $fields, $key ?? self::newKey());
    }

    /**
     * Repeating is safe because every try has the same key and the same bytes: the gateway carries a key out once. Of a
     * service whose replies lack the header "X-Speedsms-Contract: 1" that is not known: set TRIES to 1 there.
     */
    private function call(string $path, ?array $fields = null, ?string $key = null): array
    {
        $body = $fields === null ? null : json_encode($fields, JSON_THROW_ON_ERROR);
        $unknown = false; // may an earlier try have been carried out?
        for ($try = 1;; $try++) {
            [$http, $headers, $text] = $this->exchange($path, $body, $key);
            $reply = json_decode($text, true);
            $reply = is_array($reply) ? $reply : [];
            $status = $reply['status'] ?? null;
            if ($http === 200 && $status === 'success' && isset($reply['data'])) {
                return $reply['data'];
            }
            // 409: a try with this key is still running.
            $refused = $http === 200 ? $status === 'error' : $http >= 400 && $http < 500 && $http !== 409;
            $unknown = $unknown || !$refused;
            $passing = !$refused || $http === 429 || ($reply['code'] ?? '') === '500';
            if ($passing && $try < self::TRIES) {
                $wish = $headers['retry-after'] ?? '';
                sleep(min(ctype_digit($wish) ? (int) $wish : $try, self::TOTAL_S));
                continue;
            }
            if ($unknown) {
                throw new SpeedSmsUnknown($http === 0 ? $text : "HTTP $http is no answer", $key);
            }
            throw new SpeedSmsRefused($http, $reply, $headers['x-speedsms-reason'] ?? '');
        }
    }

    /** @return array{int, array<string, string>, string} HTTP status (0: no answer), headers, body */
    private function exchange(string $path, ?string $body, ?string $key): array
    {
        $headers = [];
        $curl = curl_init("{$this->baseUrl}/index.php/$path");
        curl_setopt_array($curl, [
            CURLOPT_RETURNTRANSFER => true,
            CURLOPT_CONNECTTIMEOUT => self::CONNECT_S,
            CURLOPT_TIMEOUT => self::TOTAL_S,
            CURLOPT_SSL_VERIFYPEER => true,
            CURLOPT_SSL_VERIFYHOST => 2,
            CURLOPT_FOLLOWLOCATION => false,
            CURLOPT_USERPWD => "{$this->token}:x",
            CURLOPT_HEADERFUNCTION => static function ($curl, string $line) use (&$headers): int {
                [$name, $value] = explode(':', $line, 2) + [1 => ''];
                $headers[strtolower($name)] = trim($value);
                return strlen($line);
            },
        ]);
        if ($body !== null) {
            $fields = ['Content-Type: application/json'];
            if ($key !== null) {
                if (!preg_match('~\A[\x21-\x7E]{1,255}\z~', $key)) {
                    throw new InvalidArgumentException('a key is 1 to 255 printable ASCII characters');
                }
                $fields[] = "Idempotency-Key: $key";
            }
            curl_setopt_array($curl, [CURLOPT_POSTFIELDS => $body, CURLOPT_HTTPHEADER => $fields]);
        }
        $text = curl_exec($curl);
        return $text === false ? [0, $headers, curl_error($curl)] : [curl_getinfo($curl, CURLINFO_RESPONSE_CODE), $headers, $text];
    }

    private static function newKey(): string
    {
        return bin2hex(random_bytes(16));
    }
}
