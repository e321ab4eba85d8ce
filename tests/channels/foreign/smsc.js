// An SMSC on the library `smpp`, for tests of our client: it lets everybody in, takes every message, sends a
// receipt for each that asks for one, and answers a text that begins with "reply" with its echo from the handset.
// What it sees goes to stdout, a line of JSON each.
const smpp = require('smpp');
const say = (event, more) => console.log(JSON.stringify({ event, ...more }));
let taken = 0;
let hearing = null; // the newest session that may be told something

function text(pdu) {
  const held = pdu.message_payload || pdu.short_message;
  return held.message === undefined ? held : held.message;
}

function receipt(pdu, message_id) {
  hearing.deliver_sm({
    source_addr_ton: pdu.dest_addr_ton, source_addr_npi: pdu.dest_addr_npi, source_addr: pdu.destination_addr,
    destination_addr_ton: pdu.source_addr_ton, destination_addr: pdu.source_addr,
    esm_class: smpp.ESM_CLASS.MC_DELIVERY_RECEIPT, receipted_message_id: message_id, message_state: 2,
    short_message: `id:${message_id} sub:001 dlvrd:001 submit date:2601010000 done date:2601010000 stat:DELIVRD err:000 text:`,
  }, (answer) => say('receipt taken', { message_id, status: answer.command_status }));
}

function echo(pdu) {
  hearing.deliver_sm({
    source_addr_ton: 1, source_addr_npi: 1, source_addr: pdu.destination_addr, destination_addr: pdu.source_addr,
    data_coding: pdu.data_coding, short_message: { message: text(pdu) },
  }, (answer) => say('echo taken', { status: answer.command_status }));
}

const server = smpp.createServer((session) => {
  session.on('error', (error) => say('error', { cause: String(error) }));
  for (const bind of ['bind_transceiver', 'bind_transmitter', 'bind_receiver']) {
    session.on(bind, (pdu) => {
      say('bind', { command: pdu.command, system_id: pdu.system_id, password: pdu.password });
      if (bind !== 'bind_transmitter') hearing = session;
      session.send(pdu.response({ system_id: 'foreign', sc_interface_version: 0x34 }));
    });
  }
  session.on('enquire_link', (pdu) => session.send(pdu.response()));
  session.on('unbind', (pdu) => {
    say('unbind');
    session.send(pdu.response());
    session.close();
  });
  session.on('submit_sm', (pdu) => {
    const message_id = `foreign-${taken += 1}`;
    const held = pdu.message_payload || pdu.short_message;
    say('submit', {
      message_id, text: text(pdu), source: pdu.source_addr, source_ton: pdu.source_addr_ton,
      destination: pdu.destination_addr, destination_ton: pdu.dest_addr_ton, data_coding: pdu.data_coding,
      esm_class: pdu.esm_class, header: (held.udh || []).map((part) => part.toString('hex')),
      validity_period: pdu.validity_period,
    });
    session.send(pdu.response({ message_id }));
    if (pdu.registered_delivery & 1) receipt(pdu, message_id);
    if (String(text(pdu)).startsWith('reply')) echo(pdu);
  });
});
server.listen(0, '127.0.0.1', () => say('listening', { port: server.address().port }));
process.stdin.on('close', () => process.exit(0)).resume();
