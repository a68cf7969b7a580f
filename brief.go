package mqtt

import (
	"strings"
	"unicode/utf8"

	"github.com/millrace/mqtt/codec"
)

// This file keeps little of the texts that a server sends beside a reason code: an error,
// the result of a publish and an event that is not read may be kept for long.

// maxText is how many bytes of such a text are kept.
const maxText = 2 << 10

// brief returns the first maxText bytes of s, without a part of a character. It shares no
// memory with a longer s.
func brief(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.Clone(s[:n])
}

// briefProperties returns p with a brief Reason String, and without other values of more
// than maxText: a part of them would be wrong. The texts of a p of more than maxText share
// one piece of memory, so all are copied then.
func briefProperties(p *codec.Properties) *codec.Properties {
	if p == nil || codec.PropertiesSize(p) <= maxText {
		return p
	}
	b := *p
	b.ReasonString = strings.Clone(brief(b.ReasonString))
	for id, s := range map[codec.PropertyID]*string{
		codec.PropAssignedClientIdentifier: &b.AssignedClientID, codec.PropAuthenticationMethod: &b.AuthMethod,
		codec.PropResponseInformation: &b.ResponseInfo, codec.PropServerReference: &b.ServerReference,
	} {
		if len(*s) > maxText {
			*s, b.Present = "", b.Present.Without(id)
		}
		*s = strings.Clone(*s)
	}
	if len(b.AuthData) > maxText {
		b.AuthData, b.Present = nil, b.Present.Without(codec.PropAuthenticationData)
	}
	b.User = make([]codec.UserProperty, len(p.User))
	for i, u := range p.User {
		b.User[i] = codec.UserProperty{Key: strings.Clone(u.Key), Value: strings.Clone(u.Value)}
	}
	return &b
}

// newAnswer returns what an acknowledgement says beside its code, nil for nothing.
func newAnswer(p *codec.Properties) *answer {
	if p == nil {
		return nil
	}
	p = briefProperties(p)
	return &answer{p.ReasonString, p.User, p.UserCut}
}

// newReasonError returns the error of a packet with code.
func newReasonError(packet codec.Type, v Version, code codec.ReasonCode, p *codec.Properties) *ReasonError {
	e := &ReasonError{Packet: packet, Version: v, Code: code}
	if p != nil {
		p = briefProperties(p)
		e.Reason, e.User, e.UserCut, e.ServerReference = p.ReasonString, p.User, p.UserCut, p.ServerReference
	}
	return e
}
