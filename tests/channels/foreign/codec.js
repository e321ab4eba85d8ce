// A line of JSON in, a line of JSON out: octets to fields, or fields to octets, as the foreign codec has it.
// Values of type Buffer travel as {"hex": "…"}. Its filters, which turn octets into dates and texts, are off:
// what is judged is the layout of the PDU.
const { PDU } = require("smpp/lib/pdu");
PDU.prototype._filter = () => {};

const revived = (_, value) => (value && value.hex !== undefined ? Buffer.from(value.hex, "hex") : value);
const plain = (fields) =>
  Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, Buffer.isBuffer(value) ? { hex: value.toString("hex") } : value]),
  );

require("readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const asked = JSON.parse(line, revived);
    const said = asked.octets ? plain(new PDU(asked.octets)) : plain({ octets: new PDU(asked.command, asked.fields).toBuffer() });
    process.stdout.write(JSON.stringify(said) + "\n");
  });
