// node status.mjs TRAN_ID

import { SpeedSms, SpeedSmsError } from './speedsms.mjs';

const [tranId] = process.argv.slice(2);
if (!tranId) {
  console.error('usage: node status.mjs TRAN_ID');
  process.exit(2);
}

try {
  // Another scale than the webhook's, where 0 is delivered.
  const words = ['waiting', 'sent', 'delivered', 'failed'];
  for (const { phone, status } of await new SpeedSms().status(tranId)) {
    console.log(phone, words[status] ?? status);
  }
} catch (error) {
  if (!(error instanceof SpeedSmsError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
