/*
 * Shape S1 of spec/protocol.md §5.2: POST, JSON, `sms_type` and `sender`, with the request function of old Node.
 * It proves that such programs keep working; new ones start from ../node/speedsms.mjs.
 *
 *     node node-json.js NUMBER TEXT
 */

const url = new URL(process.env.SPEEDSMS_BASE_URL + '/index.php/sms/send');
const transport = require(url.protocol === 'https:' ? 'https' : 'http');

const body = JSON.stringify({ to: [process.argv[2]], content: process.argv[3], sms_type: 2, sender: '' });
const options = {
  method: 'POST',
  auth: process.env.SPEEDSMS_TOKEN + ':x',
  headers: { 'Content-Type': 'application/json' }, // no length: Node sends such a body in chunks
  timeout: 30000,
};
const request = transport.request(url, options, (response) => {
  let text = '';
  response.setEncoding('utf8');
  response.on('data', (part) => (text += part));
  response.on('end', () => console.log(text));
});
request.on('timeout', () => request.destroy(new Error('no answer')));
request.on('error', (error) => {
  console.error(error.message);
  process.exitCode = 1;
});
request.write(body);
request.end();
