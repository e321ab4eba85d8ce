/*
 * The SpeedSMS API in one file: copy it. Node 18 or newer, no package. On a server only: a token in a browser is lost.
 *
 *     const sms = new SpeedSms();                            // SPEEDSMS_BASE_URL, SPEEDSMS_TOKEN
 *     const sent = await sms.send(['0912345678'], 'Xin chào', { type: 2 });
 *     console.log(sent.tranId);
 */

import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

const TRIES = 3;
const TOTAL_MS = 30_000;

export class SpeedSmsError extends Error {}

/** Certain: nothing was sent and nothing was charged. */
export class SpeedSmsRefused extends SpeedSmsError {
  constructor(httpStatus, reply, reason) {
    const code = String(reply.code ?? 0);
    const what = httpStatus === 200 ? `code ${code}` : `HTTP ${httpStatus}`;
    super(`refused: ${what}${reason && ` (${reason})`}: ${reply.message ?? ''}`);
    this.code = code; // '300'; '0' if the answer is of HTTP alone
    this.reason = reason; // 'balance': finer than the code, for programs; may be empty
    this.httpStatus = httpStatus;
    this.invalidPhone = reply.invalidPhone ?? []; // as you wrote them
  }
}

/** It may have been carried out: repeat the same call with this key, and nothing happens twice. */
export class SpeedSmsUnknown extends SpeedSmsError {
  constructor(why, key) {
    super(`unknown: ${why}${key ? `; repeat it with the key ${key}` : ''}`);
    this.key = key;
  }
}

export class SpeedSms {
  #baseUrl;
  #token; // private, so that no console.log shows it

  constructor(baseUrl = process.env.SPEEDSMS_BASE_URL || 'http://127.0.0.1:8100', token = process.env.SPEEDSMS_TOKEN) {
    if (!token) throw new TypeError('set SPEEDSMS_TOKEN');
    // Over plain HTTP everybody on the way reads the token.
    const { protocol, hostname } = new URL(baseUrl);
    const here = ['localhost', '127.0.0.1', '[::1]'].includes(hostname);
    if (protocol !== 'https:' && !(protocol === 'http:' && here)) {
      throw new TypeError('SPEEDSMS_BASE_URL: use https:// (http:// only on this machine)');
    }
    this.#baseUrl = baseUrl.replace(/\/+$/, '');
    this.#token = token;
  }

  /** @returns {Promise<{email: string, balance: number, currency: string}>} */
  account() {
    return this.#call('user/info');
  }

  /**
   * One text to at most 100 numbers. `key` is your own name of this sending, say "order-1234"; by default a new one.
   * @returns {Promise<{tranId: number, totalSMS: number, totalPrice: number, invalidPhone: string[]}>}
   */
  send(to, content, { type = 2, sender = '', key = randomUUID() } = {}) {
    return this.#call('sms/send', { to, content, sms_type: type, sender }, key);
  }

  /**
   * Read a code of 4 to 10 digits aloud.
   * @returns {Promise<{tranId: number, totalPrice: number, invalidPhone: string[]}>}
   */
  voice(to, digits, { key = randomUUID() } = {}) {
    return this.#call('voice/otp', { to, content: digits }, key);
  }

  /**
   * Send a PIN; {pin_code} in the text becomes it.
   * @returns {Promise<{tranId: number, totalPrice: number}>}
   */
  createPin(to, content, appId, { key = randomUUID() } = {}) {
    return this.#call('pin/create', { to, content, app_id: appId }, key);
  }

  /**
   * Look at `verified` and at nothing else: a wrong PIN is answered with success too.
   * @returns {Promise<{pin: string, phone: string, verified: boolean, remainingAttempts: number}>}
   */
  verifyPin(phone, pin, appId) {
    return this.#call('pin/verify', { phone, pin_code: pin, app_id: appId });
  }

  /** @returns {Promise<{phone: string, status: number}[]>} 0 waiting, 1 sent, 2 delivered, 3 failed */
  status(tranId) {
    return this.#call(`sms/status/${Number(tranId)}`);
  }

  /**
   * A text with a link to a picture, through an Android device.
   * @returns {Promise<{tranId: number, totalSMS: number, totalPrice: number, invalidPhone: string[]}>}
   */
  sendMms(to, content, link, device, { key = randomUUID() } = {}) {
    return this.#call('mms/send', { to, content, link, sender: device }, key);
  }

  /*
   * Repeating is safe because every try has the same key and the same bytes: the gateway carries a key out once. Of a
   * service whose replies lack the header "X-Speedsms-Contract: 1" that is not known: set TRIES to 1 there.
   */
  async #call(path, fields, key) {
    const body = fields && JSON.stringify(fields);
    let unknown = false; // may an earlier try have been carried out?
    for (let tried = 1; ; tried++) {
      const { http, headers, text } = await this.#exchange(path, body, key);
      const reply = parsed(text);
      if (http === 200 && reply.status === 'success' && reply.data) return reply.data;
      // 409: a try with this key is still running.
      const refused = http === 200 ? reply.status === 'error' : http >= 400 && http < 500 && http !== 409;
      unknown ||= !refused;
      if ((!refused || http === 429 || reply.code === '500') && tried < TRIES) {
        await sleep(Math.min(Number(headers.get('retry-after') ?? tried) * 1000 || 1000, TOTAL_MS));
        continue;
      }
      if (unknown) throw new SpeedSmsUnknown(http ? `HTTP ${http} is no answer` : text, key);
      throw new SpeedSmsRefused(http, reply, headers.get('x-speedsms-reason') ?? '');
    }
  }

  async #exchange(path, body, key) {
    const headers = { Authorization: `Basic ${Buffer.from(`${this.#token}:x`).toString('base64')}` };
    if (body) headers['Content-Type'] = 'application/json';
    if (key) headers['Idempotency-Key'] = key;
    const method = body ? 'POST' : 'GET';
    const url = `${this.#baseUrl}/index.php/${path}`;
    const signal = AbortSignal.timeout(TOTAL_MS);
    const request = new Request(url, { method, headers, body, signal, redirect: 'manual' }); // throws if it cannot be sent
    try {
      const response = await fetch(request);
      return { http: response.status, headers: response.headers, text: await response.text() };
    } catch (error) {
      return { http: 0, headers: new Headers(), text: String(error.cause?.message || error.message) };
    }
  }
}

function parsed(text) {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}
