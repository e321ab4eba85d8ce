// node account.mjs

import { SpeedSms, SpeedSmsError } from './speedsms.mjs';

try {
  const { email, balance, currency } = await new SpeedSms().account();
  console.log(`${email}: ${balance} ${currency}`);
} catch (error) {
  if (!(error instanceof SpeedSmsError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
