package codec

// The four methods here tie identifiers to the fields of Properties, one for
// each wire type, so that encoder and decoder need no list of their own. Each
// must be asked only for identifiers whose rule has that wire type.

func (p *Properties) octet(id PropertyID) *byte {
	switch id {
	case PropPayloadFormatIndicator:
		return &p.PayloadFormat
	case PropRequestProblemInformation:
		return &p.RequestProblemInfo
	case PropRequestResponseInformation:
		return &p.RequestResponseInfo
	case PropMaximumQoS:
		return &p.MaximumQoS
	case PropRetainAvailable:
		return &p.RetainAvailable
	case PropWildcardSubscriptionAvailable:
		return &p.WildcardSubAvailable
	case PropSubscriptionIdentifierAvailable:
		return &p.SubIDAvailable
	}
	return &p.SharedSubAvailable
}

func (p *Properties) uint16(id PropertyID) *uint16 {
	switch id {
	case PropServerKeepAlive:
		return &p.ServerKeepAlive
	case PropReceiveMaximum:
		return &p.ReceiveMaximum
	case PropTopicAliasMaximum:
		return &p.TopicAliasMaximum
	}
	return &p.TopicAlias
}

func (p *Properties) uint32(id PropertyID) *uint32 {
	switch id {
	case PropMessageExpiryInterval:
		return &p.MessageExpiry
	case PropSessionExpiryInterval:
		return &p.SessionExpiry
	case PropWillDelayInterval:
		return &p.WillDelay
	}
	return &p.MaximumPacketSize
}

func (p *Properties) text(id PropertyID) *string {
	switch id {
	case PropContentType:
		return &p.ContentType
	case PropResponseTopic:
		return &p.ResponseTopic
	case PropAssignedClientIdentifier:
		return &p.AssignedClientID
	case PropAuthenticationMethod:
		return &p.AuthMethod
	case PropResponseInformation:
		return &p.ResponseInfo
	case PropServerReference:
		return &p.ServerReference
	}
	return &p.ReasonString
}

func (p *Properties) binary(id PropertyID) *[]byte {
	if id == PropCorrelationData {
		return &p.CorrelationData
	}
	return &p.AuthData
}
