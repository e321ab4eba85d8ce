// node voice.mjs NUMBER DIGITS: node voice.mjs 0912345678 493027

import { SpeedSms, SpeedSmsError, SpeedSmsUnknown } from './speedsms.mjs';

const [number, digits] = process.argv.slice(2);
if (!digits) {
  console.error('usage: node voice.mjs NUMBER DIGITS');
  process.exit(2);
}

try {
  const sent = await new SpeedSms().voice(number, digits);
  console.log(`tranId ${sent.tranId}: ${sent.totalPrice} VND`);
} catch (error) {
  if (!(error instanceof SpeedSmsError)) throw error;
  console.error(error.message);
  process.exitCode = error instanceof SpeedSmsUnknown ? 5 : 1;
}
