//go:build !linux

package mqtt

import "time"

// sleepGap says that this system's standard library has no clock that counts sleep.
func sleepGap() (gap time.Duration, ok bool) { return 0, false }

// monotonicSinceBoot has nothing to begin from here.
func monotonicSinceBoot() time.Duration { return 0 }

// currentBoot does not know the boot here.
func currentBoot() bootID { return bootID{} }
