// Package chaos publishes and receives through Mosquitto while links are cut and
// stalled, processes killed and the broker restarted, and counts what became of
// every message. The command in cmd/chaos runs it for as long as asked for, a
// test of package integration for a minute.
//
// The publisher and the receiver are processes of their own, the same program
// started again, each with its session in store/bolt on disk and its link
// through a proxy of its own. A number counts as promised once WaitStored of its
// Future returned nil and that was noted in a file; what the receiver is handed
// it notes in a file before the acknowledgement. A file that was written to
// outlives a SIGKILL, so both notes are as true as the process was.
//
// A witness in this process subscribes to the same topics, without a proxy and
// never killed. It tells what the broker took from the publisher from what
// happened between the broker and the receiver: a message handed over by a
// receiver that was killed before its acknowledgement comes again to the next,
// to the witness it does not.
package chaos
