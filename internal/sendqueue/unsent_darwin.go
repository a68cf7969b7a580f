package sendqueue

// tcpNotsentLowat is TCP_NOTSENT_LOWAT, which package syscall has for arm64 alone.
const tcpNotsentLowat = 0x201
