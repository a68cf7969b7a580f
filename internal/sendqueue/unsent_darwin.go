package sendqueue

import "syscall"

const tcpNotsentLowat = syscall.TCP_NOTSENT_LOWAT
