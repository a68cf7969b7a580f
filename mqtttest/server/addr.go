package server

// Addr is the address of an end of an in-memory connection, as it was given to
// [Network.Listen] or [Network.Dial].
type Addr string

// Network returns "mem".
func (Addr) Network() string { return "mem" }

// String returns the address as it was given.
func (a Addr) String() string { return string(a) }
