/*
 * node send.mjs TEXT NUMBERS [TYPE [SENDER [KEY]]]
 *
 *     node send.mjs 'Xin chào' 0912345678,0987654321            type 2: from a random long number
 *     node send.mjs 'Xin chào' 0912345678 3 MYSHOP              type 3: from your own brandname
 *     node send.mjs 'Mã của bạn: 493027' 0912345678 4 Verify    type 4: from a shared brandname, Verify or Notify
 *     node send.mjs 'Xin chào' 0912345678 5 DEVICE              type 5: from your Android device
 */

import { SpeedSms, SpeedSmsRefused, SpeedSmsUnknown } from './speedsms.mjs';

const [text, numbers, type = '2', sender, key] = process.argv.slice(2);
if (!numbers) {
  console.error('usage: node send.mjs TEXT NUMBERS [TYPE [SENDER [KEY]]]');
  process.exit(2);
}

try {
  const sent = await new SpeedSms().send(numbers.split(','), text, { type: Number(type), sender, key });
  console.log(`tranId ${sent.tranId}: ${sent.totalSMS} accepted, ${sent.totalPrice} VND`);
  for (const phone of sent.invalidPhone) console.log(`invalid: ${phone}`);
} catch (error) {
  if (error instanceof SpeedSmsRefused) {
    console.error(error.message);
    for (const phone of error.invalidPhone) console.error(`invalid: ${phone}`);
    process.exitCode = 1;
  } else if (error instanceof SpeedSmsUnknown) {
    // Say it to a person, or keep the key and try again later; with a new key it could arrive twice.
    console.error(error.message);
    process.exitCode = 5;
  } else throw error;
}
