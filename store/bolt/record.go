// How records lie in the file: one bucket for each client and kind, so that
// numbers that only grow are appended at the right edge of a tree; in it the
// number, big-endian, to a checksum and the value.

package bolt

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"

	"go.etcd.io/bbolt"

	"github.com/millrace/mqtt/store"
)

const (
	infoBucket       = "millrace" // formatKey: version, 4 bytes big-endian
	formatKey        = "format"
	formatVersion    = 1
	quarantineBucket = "quarantine"

	keySize = 8
	sumSize = 4

	plainName  = 's' // length of the client identifier, 2 bytes; identifier; kind
	hashedName = 'h' // SHA-256 of the client identifier; kind
	// Names of a length above it are hashed: bbolt takes no name above 32 KiB, and
	// long ones fill the pages that every commit writes.
	maxPlainName = 512
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// bucketPrefix returns the names of a client's buckets but for the kind at the
// end. No such prefix is the beginning of another.
func bucketPrefix(clientID string) []byte {
	if len(clientID) > maxPlainName {
		sum := sha256.Sum256([]byte(clientID))
		return append([]byte{hashedName}, sum[:]...)
	}
	name := binary.BigEndian.AppendUint16([]byte{plainName}, uint16(len(clientID)))
	return append(name, clientID...)
}

// isRecords reports whether a bucket of that name holds records.
func isRecords(name []byte) bool {
	switch {
	case len(name) >= 4 && name[0] == plainName:
		return len(name) == 4+int(binary.BigEndian.Uint16(name[1:]))
	case len(name) > 0 && name[0] == hashedName:
		return len(name) == 2+sha256.Size
	}
	return false
}

// nameSum is the part of a record's checksum that all records of a bucket share.
func nameSum(name []byte) uint32 { return crc32.Update(0, castagnoli, name) }

// nameMark is the sequence of a bucket of records, which bbolt keeps beside its root
// page: a damaged name would be that of another client, and its records gone. Files
// from before have 0 there until something is put into the bucket.
func nameMark(name []byte) uint64 { return 1<<32 | uint64(nameSum(name)) }

// bucketFor returns the bucket of that name, a new one if there is none.
func bucketFor(tx *bbolt.Tx, name []byte) (*bbolt.Bucket, error) {
	b, err := tx.CreateBucketIfNotExists(name)
	if err == nil && isRecords(name) && b.Sequence() == 0 {
		err = b.SetSequence(nameMark(name))
	}
	return b, err
}

func appendKey(dst []byte, seq uint64) []byte { return binary.BigEndian.AppendUint64(dst, seq) }

// appendValue appends what is stored for a record in a bucket with that nameSum.
func appendValue(dst []byte, nameSum uint32, key []byte, op *store.Op) []byte {
	sum := crc32.Update(nameSum, castagnoli, key)
	sum = crc32.Update(sum, castagnoli, op.Head)
	sum = crc32.Update(sum, castagnoli, op.Body)
	dst = binary.BigEndian.AppendUint32(dst, sum)
	dst = append(dst, op.Head...)
	return append(dst, op.Body...)
}

// value returns the value within what is stored, or what is wrong with it.
func value(nameSum uint32, key, stored []byte) (value []byte, problem string) {
	switch {
	case len(key) != keySize:
		return nil, "foreign key"
	case len(stored) < sumSize:
		return nil, "truncated"
	}
	value = stored[sumSize:]
	sum := crc32.Update(crc32.Update(nameSum, castagnoli, key), castagnoli, value)
	if sum != binary.BigEndian.Uint32(stored) {
		return nil, "checksum"
	}
	return value, ""
}

// seqOf returns the number that a key says, as far as it says one.
func seqOf(key []byte) uint64 {
	var padded [keySize]byte
	copy(padded[:], key)
	return binary.BigEndian.Uint64(padded[:])
}

// valueSize is what a stored record counts for in a session's limits.
func valueSize(stored []byte) int64 { return int64(max(len(stored)-sumSize, 0)) }
