package codec

// CheckTopicName reports whether s is a topic name that a PUBLISH may carry
// (section 4.7): well-formed UTF-8 of 1 to 65,535 bytes without U+0000
// [MQTT-4.7.3-1, -2, -3] and without the wildcards "+" and "#" [MQTT-3.3.2-2].
// The error is an *Error: ProtocolError for an empty name, TopicNameInvalid
// for a wildcard, MalformedPacket for the rest.
func CheckTopicName[T ~string | ~[]byte](s T) error { return asError(checkTopicName(s)) }

func checkTopicName[T ~string | ~[]byte](s T) *Error {
	if len(s) == 0 {
		return protocolError(0, 0, "empty")
	}
	if len(s) > maxString {
		return errTooLong()
	}
	for i := 0; i < len(s); {
		c := s[i]
		if isPlain(c) {
			if c == '+' || c == '#' {
				return &Error{Code: TopicNameInvalid, Offset: i, Detail: "holds a wildcard"}
			}
			i++
			continue
		}
		n := sequence(s, i)
		if n == 0 {
			return errBadText(c, i)
		}
		i += n
	}
	return nil
}

// CheckTopicFilter reports whether s is a topic filter that a SUBSCRIBE may
// carry (section 4.7): well-formed UTF-8 of 1 to 65,535 bytes without U+0000,
// "#" only as the whole last level and "+" only as a whole level
// [MQTT-4.7.1-1, -2]. What begins with "$share/" must be a shared subscription
// $share/NAME/FILTER with a name without wildcards and a filter
// [MQTT-4.8.2-1, -2]. The error is an *Error: ProtocolError for an empty
// filter, TopicFilterInvalid for wildcards and $share, MalformedPacket for the rest.
func CheckTopicFilter[T ~string | ~[]byte](s T) error { return asError(checkTopicFilter(s)) }

func checkTopicFilter[T ~string | ~[]byte](s T) *Error {
	if len(s) == 0 {
		return protocolError(0, 0, "empty")
	}
	if err := checkUTF8(s); err != nil {
		return err
	}
	start := 0
	if isShared(s) {
		var err *Error
		if start, err = sharedFilterStart(s); err != nil {
			return err
		}
	}
	return checkWildcards(s, start)
}

const sharePrefix = "$share/"

// isShared reports whether the filter s asks for a shared subscription, section 4.8.2.
func isShared[T ~string | ~[]byte](s T) bool {
	return len(s) >= len(sharePrefix) && string(s[:len(sharePrefix)]) == sharePrefix
}

// sharedFilterStart checks the share name of $share/NAME/FILTER and returns where FILTER begins.
func sharedFilterStart[T ~string | ~[]byte](s T) (int, *Error) {
	for i := len(sharePrefix); i < len(s); i++ {
		switch s[i] {
		case '+', '#':
			return 0, filterInvalid(i, "wildcard in a share name")
		case '/':
			if i == len(sharePrefix) {
				return 0, filterInvalid(i, "empty share name")
			}
			if i+1 == len(s) {
				return 0, filterInvalid(i+1, "shared subscription without a filter")
			}
			return i + 1, nil
		}
	}
	return 0, filterInvalid(len(s), "shared subscription without a filter")
}

// checkWildcards checks the wildcards of the filter s[start:].
func checkWildcards[T ~string | ~[]byte](s T, start int) *Error {
	for i := start; i < len(s); i++ {
		c := s[i]
		if c != '+' && c != '#' {
			continue
		}
		if i > start && s[i-1] != '/' {
			return filterInvalid(i, "wildcard shares its level with other characters")
		}
		switch {
		case i+1 == len(s):
		case c == '#':
			return filterInvalid(i, `"#" is not the last character`)
		case s[i+1] != '/':
			return filterInvalid(i, "wildcard shares its level with other characters")
		}
	}
	return nil
}

func filterInvalid(at int, detail string) *Error {
	return &Error{Code: TopicFilterInvalid, Offset: at, Detail: detail}
}
