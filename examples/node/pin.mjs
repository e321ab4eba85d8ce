/*
 * node pin.mjs create APP_ID NUMBER
 * node pin.mjs verify APP_ID NUMBER PIN
 */

import { SpeedSms, SpeedSmsError, SpeedSmsUnknown } from './speedsms.mjs';

const [step, appId, number, pin] = process.argv.slice(2);
if (!(step === 'create' && number) && !(step === 'verify' && pin)) {
  console.error('usage: node pin.mjs create APP_ID NUMBER | verify APP_ID NUMBER PIN');
  process.exit(2);
}

try {
  const sms = new SpeedSms();
  if (step === 'create') {
    const sent = await sms.createPin(number, 'Mã xác thực của bạn là {pin_code}', appId);
    console.log(`tranId ${sent.tranId}: ${sent.totalPrice} VND`);
  } else {
    const { verified, remainingAttempts } = await sms.verifyPin(number, pin, appId);
    console.log(verified === true ? 'verified' : `wrong, ${remainingAttempts} tries left`);
    process.exitCode = verified === true ? 0 : 1;
  }
} catch (error) {
  if (!(error instanceof SpeedSmsError)) throw error;
  console.error(error.message);
  process.exitCode = error instanceof SpeedSmsUnknown ? 5 : 1;
}
