package codec

// Connect is the first packet of a connection, section 3.1.
type Connect struct {
	Version     Version     // protocol name and level
	ClientID    string      // may be empty: the server assigns one, in 3.1.1 only with CleanStart, in 3.1 never
	CleanStart  bool        // Clean Session in 3.x
	KeepAlive   uint16      // seconds, 0 = off
	HasUsername bool        // an empty user name differs from none
	Username    string      // written when HasUsername is set
	HasPassword bool        // in 3.x only together with HasUsername
	Password    []byte      // at most 65,535 bytes, written when HasPassword is set
	Will        *Will       // nil = none
	Props       *Properties // MQTT 5.0 only, not written in 3.x
}

// Will is the message that the server publishes when the connection is lost, section 3.1.2.5.
type Will struct {
	Topic   string      // a topic name
	Payload []byte      // at most 65,535 bytes
	QoS     byte        // 0, 1 or 2
	Retain  bool        // the server keeps it as the retained message of its topic
	Props   *Properties // MQTT 5.0 only, not written in 3.x
}

// The connect flags, section 3.1.2.3.
const (
	connectReserved   = 1 << 0
	connectCleanStart = 1 << 1
	connectWill       = 1 << 2
	connectWillQoS    = 3 << 3
	connectWillRetain = 1 << 5
	connectPassword   = 1 << 6
	connectUsername   = 1 << 7
)

// Decode sets p to the CONNECT in body and reads the version from it; p owns
// its memory. The error is an *Error; its code is UnsupportedProtocolVersion
// when protocol name and level are not those of a known version.
func (p *Connect) Decode(body []byte) error {
	*p = Connect{}
	c := cursor{t: CONNECT, b: body}
	p.Version = c.protocol()
	flags := c.connectFlags(p.Version)
	p.CleanStart = flags&connectCleanStart != 0
	p.KeepAlive = c.uint16("keep alive")
	if p.Version == V5 {
		p.Props = c.properties(false)
	}
	p.ClientID = c.text("client identifier", checkUTF8)
	if flags&connectWill != 0 {
		p.Will = c.will(p.Version, flags)
	}
	// 3.1 lets the flags stand although the fields are missing: its section 3.1
	// says that the remaining length takes precedence.
	if flags&connectUsername != 0 && (c.more() || p.Version != V31) {
		p.HasUsername = true
		p.Username = c.text("user name", checkUTF8)
	}
	if flags&connectPassword != 0 && (c.more() || p.Version != V31) {
		p.HasPassword = true
		p.Password = c.binary("password")
	}
	return c.end()
}

// protocol reads protocol name and level.
func (c *cursor) protocol() Version {
	name := c.view("protocol name")
	v := Version(c.byte("protocol level"))
	if c.err == nil && (!v.Valid() || string(name) != v.protocolName()) {
		c.fail(&Error{Type: CONNECT, Code: UnsupportedProtocolVersion, Offset: 0, Detail: "unknown protocol name or level"})
	}
	return v
}

// connectFlags reads the connect flags and checks them against each other.
func (c *cursor) connectFlags(v Version) byte {
	at := c.off
	flags := c.byte("connect flags")
	detail := ""
	switch {
	case c.err != nil:
	case flags&connectReserved != 0:
		detail = "reserved connect flag set" // [MQTT-3.1.2-3]
	case flags&connectWill == 0 && flags&(connectWillQoS|connectWillRetain) != 0:
		detail = "will QoS or retain without a will" // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
	case flags&connectWillQoS == connectWillQoS:
		detail = "will QoS 3" // [MQTT-3.1.2-12]
	case v != V5 && flags&connectPassword != 0 && flags&connectUsername == 0:
		detail = "password without user name" // 3.1.1: [MQTT-3.1.2-22]
	}
	if detail != "" {
		c.fail(malformed(CONNECT, at, detail))
	}
	return flags
}

func (c *cursor) will(v Version, flags byte) *Will {
	w := &Will{QoS: flags >> 3 & 3, Retain: flags&connectWillRetain != 0}
	if v == V5 {
		w.Props = c.properties(true)
	}
	w.Topic = c.text("will topic", checkTopicName)
	w.Payload = c.binary("will payload")
	return w
}

// AppendConnect appends p. v must be p.Version or 0, which stands for it. On an
// error, an *Error, dst is returned as it came.
func AppendConnect(dst []byte, v Version, p *Connect) ([]byte, error) {
	e := encode(dst, CONNECT)
	if v == 0 {
		v = p.Version
	}
	if err := p.checkFlags(v); err != nil {
		e.fail(err)
	}
	e.dst = appendString(e.dst, v.protocolName())
	e.byte(byte(v))
	e.byte(p.flags())
	e.uint16(p.KeepAlive)
	if v == V5 {
		e.properties(p.Props, false)
	}
	e.text("client identifier", p.ClientID, checkUTF8)
	if p.Will != nil {
		e.will(v, p.Will)
	}
	if p.HasUsername {
		e.text("user name", p.Username, checkUTF8)
	}
	if p.HasPassword {
		e.binary("password", p.Password)
	}
	return e.end()
}

func (p *Connect) checkFlags(v Version) *Error {
	switch {
	case !v.Valid() || p.Version != v && p.Version != 0:
		return &Error{Type: CONNECT, Code: UnsupportedProtocolVersion, Offset: nowhere, Detail: "unknown protocol version"}
	case p.Will != nil && p.Will.QoS > 2:
		return malformed(CONNECT, nowhere, "will QoS above 2")
	case v != V5 && p.HasPassword && !p.HasUsername:
		return malformed(CONNECT, nowhere, "password without user name") // 3.1.1: [MQTT-3.1.2-22]
	}
	return nil
}

func (p *Connect) flags() (flags byte) {
	if p.CleanStart {
		flags |= connectCleanStart
	}
	if w := p.Will; w != nil {
		flags |= connectWill | w.QoS<<3&connectWillQoS
		if w.Retain {
			flags |= connectWillRetain
		}
	}
	if p.HasPassword {
		flags |= connectPassword
	}
	if p.HasUsername {
		flags |= connectUsername
	}
	return flags
}

func (e *encoder) will(v Version, w *Will) {
	if v == V5 {
		e.properties(w.Props, true)
	}
	e.text("will topic", w.Topic, checkTopicName)
	e.binary("will payload", w.Payload)
}
