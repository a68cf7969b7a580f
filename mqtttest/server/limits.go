package server

import (
	"math"

	"github.com/millrace/mqtt/codec"
)

// limits are what a CONNACK told a client, with the standard's value for what it left out.
type limits struct {
	receiveMaximum int
	aliasMaximum   uint16
	maximumQoS     byte
	retain         bool
	wildcards      bool
	subIDs         bool
	shared         bool
}

func limitsOf(p *codec.Properties) limits {
	l := limits{receiveMaximum: math.MaxUint16, maximumQoS: 2, retain: true, wildcards: true, subIDs: true, shared: true}
	if p.Has(codec.PropReceiveMaximum) {
		l.receiveMaximum = int(p.ReceiveMaximum)
	}
	if p.Has(codec.PropTopicAliasMaximum) {
		l.aliasMaximum = p.TopicAliasMaximum
	}
	if p.Has(codec.PropMaximumQoS) {
		l.maximumQoS = p.MaximumQoS
	}
	l.retain = !p.Has(codec.PropRetainAvailable) || p.RetainAvailable == 1
	l.wildcards = !p.Has(codec.PropWildcardSubscriptionAvailable) || p.WildcardSubAvailable == 1
	l.subIDs = !p.Has(codec.PropSubscriptionIdentifierAvailable) || p.SubIDAvailable == 1
	l.shared = !p.Has(codec.PropSharedSubscriptionAvailable) || p.SharedSubAvailable == 1
	return l
}

func broken(t codec.Type, code codec.ReasonCode, detail string) error {
	return &codec.Error{Type: t, Code: code, Offset: -1, Detail: detail}
}
