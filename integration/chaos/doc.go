// Package chaos publishes and receives through a broker while links are cut,
// stalled and slowed, processes killed and, where it is Mosquitto, the broker
// restarted, and counts what became of every message. The command in cmd/chaos
// runs it for as long as asked for, tests of package integration for a minute.
//
// The publisher and the receiver are processes of their own, the same program
// started again, each with its session in store/bolt on disk and its link
// through a proxy of its own. A number counts as promised once WaitStored of its
// Future returned nil and that was noted in a file; what the receiver is handed
// it notes in a file before the acknowledgement. A file that was written to
// outlives a SIGKILL, so both notes are as true as the process was.
//
// A process that is not killed leaves now and then in the middle of everything: by
// Close, Drain, Disconnect or the end of Connect's context. Faults pause meanwhile, and
// what it says last must arrive: every client has a will, and a watcher counts those
// that the broker publishes behind the mark of a process that left. What a receiver had
// settled before it left must not come to the next.
//
// A slow line carries 64 KiB a second for up to 90 s, with small buffers, so that what it
// has not carried waits at its sender. It is neither cut nor its process ended: the
// client has to see that it lives. With Mosquitto the receiver may also subscribe to a
// filter at which the broker cuts the link.
//
// A witness in this process subscribes to the same topics, without a proxy and
// never killed. It tells what the broker took from the publisher from what
// happened between the broker and the receiver: a message handed over by a
// receiver that was killed before its acknowledgement comes again to the next,
// to the witness it does not.
//
// # Mosquitto and mochi
//
// Through Mosquitto everything that was promised arrives, at QoS 2 once, in order.
// mochi 2.7.9 keeps less than that when links are cut, as
// TestRestartLinkCutDisorderly tells, so there every loss, double and change of
// order is traced: mochi tapes what it reads and writes, in plain MQTT whatever
// the transport, and a message that is missing counts as forgotten by mochi only
// if mochi had acknowledged it to the publisher and still owed it to the
// subscriber at the end. One that the subscriber acknowledged, or had on its last
// link, or that the publisher never brought to an acknowledgement, counts as lost
// by the client. A QoS 2 message may arrive as often as mochi began its exchange
// anew, unless the publisher began it anew; a Future may fail where mochi refused
// the message; and the order that the client answers for is that in which it sent
// on each link, and that of the subscriber's tapes. What mochi drops at its limits
// it counts itself.
//
// # Why a proxy of our own
//
// Shopify/toxiproxy 2.12 has most single faults: latency, bandwidth, a cut after
// so many bytes (limit_data), and held latency that is taken away again makes a
// stall. What it has not:
//
//   - a tape of what passed, in an order in which every packet stands before its
//     answer, which is what tells whose fault a missing message is;
//   - a reset of a link that lives: reset_peer drops what is in flight only on
//     links that began with it, any other link it ends in the orderly way;
//   - a plan for each link: toxics belong to a proxy and hold for its links
//     alike, and chance decides no more than whether a link gets one;
//   - links that the one in charge of the faults can see and count: after two
//     that ended young the next has to be spared, see youngLimit.
package chaos
