// node mms.mjs TEXT LINK DEVICE NUMBERS: node mms.mjs 'Xin chào' https://shop.example/a.jpg DEVICE 0912345678,0987654321

import { SpeedSms, SpeedSmsError, SpeedSmsUnknown } from './speedsms.mjs';

const [text, link, device, numbers] = process.argv.slice(2);
if (!numbers) {
  console.error('usage: node mms.mjs TEXT LINK DEVICE NUMBERS');
  process.exit(2);
}

try {
  const sent = await new SpeedSms().sendMms(numbers.split(','), text, link, device);
  console.log(`tranId ${sent.tranId}: ${sent.totalSMS} accepted, ${sent.totalPrice} VND`);
} catch (error) {
  if (!(error instanceof SpeedSmsError)) throw error;
  console.error(error.message);
  process.exitCode = error instanceof SpeedSmsUnknown ? 5 : 1;
}
