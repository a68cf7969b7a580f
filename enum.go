package mqtt

import "strconv"

// This file names the values of the package's own enumerations.

// valueName is the name of value v, or for one that does not exist what and its number.
func valueName(what string, v uint8, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return what + " " + strconv.Itoa(int(v))
}
