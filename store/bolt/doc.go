// Package bolt keeps the sessions of millrace clients in one file on disk, a
// bbolt database. It is a module of its own so that the core has no part in that
// dependency.
//
//	sessions, err := bolt.Open("/var/lib/meter/sessions.db")
//	if err != nil {
//		return err
//	}
//	defer sessions.Close()
//
// # What is guaranteed
//
// When Commit returns nil its batch is on disk: written and flushed with
// fdatasync before the head that makes it valid is written and flushed too. It
// outlives the process and, if the disk keeps what it says it flushed, the power
// supply. A batch is there whole or not at all.
//
// Every record carries a CRC-32C over its client, kind, number and value. One
// that does not match is moved to a quarantine within the file as Load finds it,
// visited once with a [store.DamageError], and kept for [Store.Quarantine]. Where there
// is no room for that it is only taken out, or stays to be met again. Open
// checks the file's pages before it trusts them, also that each leads to all of its
// records and that the names of clients are what they were: damage there is a
// [CorruptError], and the file stays as it is unless [WithSalvage] says that what
// is sound may go to a new one.
//
// Three damages cannot be told from the normal course of things: a file that was
// replaced by an older copy of itself; a page of which the last write was lost, though
// the disk said that it flushed it, so that it is as it was before; and a newest head
// with a wrong number in it, which is what a crash while it was written may leave too:
// the file is then as it was one commit before.
//
// After an error that wraps [store.ErrUncertain] every call of the Store and of all
// its sessions returns that error. Close it, and open the file again.
//
// # What it costs
//
// A commit costs two flushes, whatever its size, and one more when the file grows for
// it. Batches that are committed while another commit is in progress share the next
// one, also those of different sessions: under load the flushes per batch fall.
// [Stats] counts both. There is no way to turn the flushing off; for a session that
// need not outlive the process, take [store.Memory].
//
// Deleted records leave room that later ones use, and so does what a client without
// records took once its session is closed. The file itself never shrinks, and each
// commit writes the list of its free pages, 8 bytes for a page: after 300 MB were
// stored and deleted again that is 800 kB each time. Open with [WithCompaction], which
// writes such a file anew, where a long absence of the server may fill it.
// To leave the list out of the file would make Open depend on a scan of all pages
// that cannot be kept from crashing on a damaged file.
//
// Open reads all pages of the file once, and flushes its head and its directory: what
// it finds may be the commit, or the file, of a process that was killed, or had an
// error, before its last flush.
//
// # The file
//
// Beside the file stand, for as long as it is made, written anew or backed up, one with
// its name, ".millrace-new-" and digits, and those that [WithSalvage] put aside. Open
// removes what a killed process left of the former.
//
// One process at a time has the file open; another gets [store.ErrInUse]. It must
// be on a local file system with working locks and flushes, not on NFS or SMB.
// While it is open do not copy, move, replace or truncate it. To move it or to
// back it up, close the store, or copy it with [Store.Backup], which takes a
// consistent copy at any time. A copy that is put back brings back the exchanges
// of its time: messages that went through since are sent again. The file depends
// on the machine's byte order, not on the operating system.
//
// # Systems
//
// All of this is tested on Linux, and made for macOS and the BSDs too. On a file system
// without hard links each salvage that is cut short leaves a whole copy of the damaged
// file. On Windows compaction and salvage let go of the old file before the new one
// takes its name, so see that no other process opens it just then, and the file grows
// to powers of two, or by whole GiB above the first, so that [WithMaxFile] gives less
// than it says between them. On Android, Solaris, illumos and AIX locks are those of a
// process: two Stores of one process are not kept apart there, nor is a salvage from
// another process.
package bolt
