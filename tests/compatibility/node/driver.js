// KafkaJS behind one long-lived process; its packages are found through NODE_PATH.
// One JSON command per line on standard input, one JSON answer per line on standard output; drivers.py describes the commands.
"use strict";

const readline = require("node:readline");
const fzstd = require("fzstd");
const { CompressionCodecs, CompressionTypes, Kafka, PartitionAssigners, logLevel } = require("kafkajs");
const lz4 = require("lz4js");
const xxh32 = require("lz4js/xxh32.js");
const snappy = require("snappyjs");
const { ZstdCodec } = require("zstd-codec");

// KafkaJS brings gzip only and takes the other codecs as plug-ins.

const XERIAL_HEADER = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0, 0, 0, 0, 1, 0, 0, 0, 1]);

CompressionCodecs[CompressionTypes.Snappy] = () => ({
  async compress(encoder) {
    const block = Buffer.from(snappy.compress(encoder.buffer));
    const size = Buffer.alloc(4);
    size.writeInt32BE(block.length);
    return Buffer.concat([XERIAL_HEADER, size, block]);
  },
  async decompress(data) {
    if (!data.subarray(0, 8).equals(XERIAL_HEADER.subarray(0, 8))) {
      return Buffer.from(snappy.uncompress(data));
    }
    const blocks = [];
    for (let position = 16; position < data.length;) {
      const size = data.readInt32BE(position);
      blocks.push(Buffer.from(snappy.uncompress(data.subarray(position + 4, position + 4 + size))));
      position += 4 + size;
    }
    return Buffer.concat(blocks);
  },
});

// Kafka takes frames of independent blocks only. lz4js makes its blocks independently but does not say so in the frame's
// descriptor, whose checksum is the second byte of its xxHash.
function independentBlocks(frame) {
  frame[4] |= 0x20;
  frame[6] = (xxh32.hash(0, frame, 4, 2) >> 8) & 0xff;
  return frame;
}

// lz4js loses the end of some frames, so reading them is done here: the blocks of a frame, without its checksums.
function decompressLz4(frame) {
  const [blockChecksums, contentSize] = [frame[4] & 0x10, frame[4] & 0x08];
  const out = [];
  let position = 7 + (contentSize ? 8 : 0);
  for (;;) {
    const size = frame.readUInt32LE(position);
    position += 4;
    if (size === 0) return Buffer.from(out);
    const end = position + (size & 0x7fffffff);
    if (size >>> 31) for (const byte of frame.subarray(position, end)) out.push(byte);
    else decompressLz4Block(frame.subarray(position, end), out);
    position = end + (blockChecksums ? 4 : 0);
  }
}

function decompressLz4Block(block, out) {
  let position = 0;
  const length = (start) => {
    let size = start;
    for (let byte = 255; size >= 15 && byte === 255;) size += byte = block[position++];
    return size;
  };
  while (position < block.length) {
    const token = block[position++];
    for (let left = length(token >> 4); left > 0; left--) out.push(block[position++]);
    if (position >= block.length) return;
    const distance = block.readUInt16LE(position);
    position += 2;
    for (let left = length(token & 15) + 4; left > 0; left--) out.push(out[out.length - distance]);
  }
}

CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => independentBlocks(Buffer.from(lz4.compress(encoder.buffer))),
  decompress: async (data) => decompressLz4(data),
});

const zstd = new Promise((resolve) => ZstdCodec.run((codec) => resolve(new codec.Simple())));
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from((await zstd).compress(encoder.buffer)),
  decompress: async (data) => Buffer.from(fzstd.decompress(data)),
});

const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
};

const members = new Map();
const bytes = (text) => (text === null ? null : Buffer.from(text, "base64"));
const text = (data) => (data === null || data === undefined ? null : Buffer.from(data).toString("base64"));
const connect = (command) =>
  new Kafka({ clientId: "kafkajs", brokers: [command.bootstrap], logLevel: logLevel.NOTHING, retry: { initialRetryTime: 50 } });

// An object from names to values; a name that comes more than once has an array.
function headersOf(record) {
  const headers = {};
  for (const [name, value] of record.headers) {
    headers[name] = name in headers ? [headers[name], bytes(value)].flat() : bytes(value);
  }
  return headers;
}

async function produce(command) {
  const producer = connect(command).producer({ idempotent: command.idempotent, maxInFlightRequests: 1 });
  await producer.connect();
  try {
    const messages = command.records.map((record) => ({
      partition: record.partition,
      key: bytes(record.key),
      value: bytes(record.value),
      headers: headersOf(record),
      ...(record.timestamp === null ? {} : { timestamp: String(record.timestamp) }),
    }));
    const answers = await producer.send({ topic: command.topic, acks: -1, compression: CODECS[command.codec], messages });
    const next = new Map(answers.map((answer) => [answer.partition, Number(answer.baseOffset)]));
    return {
      offsets: command.records.map(({ partition }) => {
        const offset = next.get(partition);
        next.set(partition, offset + 1);
        return offset;
      }),
    };
  } finally {
    await producer.disconnect();
  }
}

async function consume(command) {
  const records = [];
  const consumer = connect(command).consumer({
    groupId: `kafkajs-${process.pid}-${Date.now()}-${Math.random()}`,
    readUncommitted: !command.committed,
    maxWaitTimeInMs: 100,
  });
  await consumer.connect();
  await consumer.subscribe({ topic: command.topic, fromBeginning: true });
  try {
    await new Promise((resolve) => {
      setTimeout(resolve, command.timeout_ms);
      consumer.run({
        autoCommit: false,
        eachMessage: async ({ partition, message }) => {
          const headers = Object.entries(message.headers ?? {}).flatMap(([name, value]) =>
            (Array.isArray(value) ? value : [value]).map((one) => [name, text(one)]));
          records.push({
            partition,
            offset: Number(message.offset),
            timestamp: Number(message.timestamp),
            key: text(message.key),
            value: text(message.value),
            headers,
          });
          if (records.length >= command.count) resolve();
        },
      });
    });
  } finally {
    await consumer.disconnect();
  }
  return { records };
}

async function join(command) {
  const consumer = connect(command).consumer({
    groupId: command.group,
    partitionAssigners: [PartitionAssigners.roundRobin],
    sessionTimeout: 10000,
    heartbeatInterval: 300,
    maxWaitTimeInMs: 100,
  });
  const member = { consumer, assignment: [], received: [], rebalances: 0, problem: null };
  members.set(command.member, member);
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    member.assignment = (payload.memberAssignment[command.topic] ?? []).slice().sort((a, b) => a - b);
    member.rebalances += 1;
  });
  consumer.on(consumer.events.REBALANCING, () => {
    member.assignment = [];
  });
  consumer.on(consumer.events.CRASH, ({ payload }) => {
    member.problem = String(payload.error);
  });
  await consumer.connect();
  await consumer.subscribe({ topic: command.topic, fromBeginning: true });
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ topic, partition, message }) => {
      member.received.push(text(message.value));
      await consumer.commitOffsets([{ topic, partition, offset: String(Number(message.offset) + 1) }]);
    },
  });
  return {};
}

async function leave(command) {
  const { consumer } = members.get(command.member);
  members.delete(command.member);
  await consumer.disconnect();
  return {};
}

function describe(command) {
  const { assignment, received, rebalances, problem } = members.get(command.member);
  return { assignment, received, rebalances, problem };
}

const COMMANDS = { produce, consume, join, leave, member: describe };

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let answer;
    try {
      const command = JSON.parse(line);
      answer = await COMMANDS[command.do](command);
    } catch (problem) {
      answer = { error: `${problem.name}: ${problem.message}` };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
  }
  process.exit(0);
}

main();
