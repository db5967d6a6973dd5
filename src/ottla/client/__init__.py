"""The clients: Producer, Consumer, ShareConsumer and Admin, for any cluster that speaks Kafka's protocol.

**One logic, two doors.** What is difficult (which batch goes next, what an error means, who owns a partition, where to
fetch) is decided by state machines that do no I/O: time comes in as an argument, requests and deadlines go out. One
asyncio shell carries them out. `ottla.aio` offers it as it is; the blocking classes run the same shell on an event loop
in a background thread (`blocking.py`) and take over only what a thread must do itself.

**Batches, not records.** A record is encoded where it is sent, into the batch that will leave; nothing else is kept of
it. Fetched batches stay bytes until somebody asks for their records, or for their columns.

**The parts.** `network/` keeps connections, metadata and coordinators, and is the only part that knows sockets;
`settings/` is Kafka's settings as typed objects; `producer/`, `consumer/`, `share/`, `admin/` are the clients;
`security/` signs them in; `metrics/` counts. Names that users need are offered by `ottla` and `ottla.aio`.
"""
