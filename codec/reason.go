package codec

import "fmt"

// ReasonCode is the result of an operation, section 2.4 of MQTT 5.0. Codes
// below 0x80 are successes. In a 3.x CONNACK it holds the return code 0 to 5,
// see [ConnectReturnCodeString].
type ReasonCode byte

// The reason codes of MQTT 5.0. Three names share 0x00, one for each kind of packet.
const (
	Success                             ReasonCode = 0x00
	NormalDisconnection                 ReasonCode = 0x00
	GrantedQoS0                         ReasonCode = 0x00
	GrantedQoS1                         ReasonCode = 0x01
	GrantedQoS2                         ReasonCode = 0x02
	DisconnectWithWill                  ReasonCode = 0x04
	NoMatchingSubscribers               ReasonCode = 0x10
	NoSubscriptionExisted               ReasonCode = 0x11
	ContinueAuthentication              ReasonCode = 0x18
	ReAuthenticate                      ReasonCode = 0x19
	UnspecifiedError                    ReasonCode = 0x80
	MalformedPacket                     ReasonCode = 0x81
	ProtocolError                       ReasonCode = 0x82
	ImplementationSpecificError         ReasonCode = 0x83
	UnsupportedProtocolVersion          ReasonCode = 0x84
	ClientIdentifierNotValid            ReasonCode = 0x85
	BadUserNameOrPassword               ReasonCode = 0x86
	NotAuthorized                       ReasonCode = 0x87
	ServerUnavailable                   ReasonCode = 0x88
	ServerBusy                          ReasonCode = 0x89
	Banned                              ReasonCode = 0x8A
	ServerShuttingDown                  ReasonCode = 0x8B
	BadAuthenticationMethod             ReasonCode = 0x8C
	KeepAliveTimeout                    ReasonCode = 0x8D
	SessionTakenOver                    ReasonCode = 0x8E
	TopicFilterInvalid                  ReasonCode = 0x8F
	TopicNameInvalid                    ReasonCode = 0x90
	PacketIdentifierInUse               ReasonCode = 0x91
	PacketIdentifierNotFound            ReasonCode = 0x92
	ReceiveMaximumExceeded              ReasonCode = 0x93
	TopicAliasInvalid                   ReasonCode = 0x94
	PacketTooLarge                      ReasonCode = 0x95
	MessageRateTooHigh                  ReasonCode = 0x96
	QuotaExceeded                       ReasonCode = 0x97
	AdministrativeAction                ReasonCode = 0x98
	PayloadFormatInvalid                ReasonCode = 0x99
	RetainNotSupported                  ReasonCode = 0x9A
	QoSNotSupported                     ReasonCode = 0x9B
	UseAnotherServer                    ReasonCode = 0x9C
	ServerMoved                         ReasonCode = 0x9D
	SharedSubscriptionsNotSupported     ReasonCode = 0x9E
	ConnectionRateExceeded              ReasonCode = 0x9F
	MaximumConnectTime                  ReasonCode = 0xA0
	SubscriptionIdentifiersNotSupported ReasonCode = 0xA1
	WildcardSubscriptionsNotSupported   ReasonCode = 0xA2
)

// IsError reports whether c says that the operation failed: 0x80 and above.
func (c ReasonCode) IsError() bool { return c >= 0x80 }

// String returns the standard's name of c, "Success" for 0x00, and
// "reason code 0xNN" for a value that the standard does not define.
func (c ReasonCode) String() string {
	if name := c.name(); name != "" {
		return name
	}
	return fmt.Sprintf("reason code 0x%02X", byte(c))
}

func (c ReasonCode) name() string {
	switch {
	case c < UnspecifiedError:
		return c.successName()
	case int(c-UnspecifiedError) < len(errorNames):
		return errorNames[c-UnspecifiedError]
	}
	return ""
}

func (c ReasonCode) successName() string {
	switch c {
	case Success:
		return "Success"
	case GrantedQoS1:
		return "Granted QoS 1"
	case GrantedQoS2:
		return "Granted QoS 2"
	case DisconnectWithWill:
		return "Disconnect with Will Message"
	case NoMatchingSubscribers:
		return "No matching subscribers"
	case NoSubscriptionExisted:
		return "No subscription existed"
	case ContinueAuthentication:
		return "Continue authentication"
	case ReAuthenticate:
		return "Re-authenticate"
	}
	return ""
}

// errorNames are the names of the codes from 0x80 on, which leave no gap.
var errorNames = [...]string{
	"Unspecified error", "Malformed Packet", "Protocol Error", "Implementation specific error",
	"Unsupported Protocol Version", "Client Identifier not valid", "Bad User Name or Password", "Not authorized",
	"Server unavailable", "Server busy", "Banned", "Server shutting down",
	"Bad authentication method", "Keep Alive timeout", "Session taken over", "Topic Filter invalid",
	"Topic Name invalid", "Packet Identifier in use", "Packet Identifier not found", "Receive Maximum exceeded",
	"Topic Alias invalid", "Packet too large", "Message rate too high", "Quota exceeded",
	"Administrative action", "Payload format invalid", "Retain not supported", "QoS not supported",
	"Use another server", "Server moved", "Shared Subscriptions not supported", "Connection rate exceeded",
	"Maximum connect time", "Subscription Identifiers not supported", "Wildcard Subscriptions not supported",
}
