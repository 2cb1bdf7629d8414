// Package servers starts private instances of real servers for tests, demos and
// benchmarks: each a child process on a free port of 127.0.0.1, in a temporary
// directory of its own, with the settings that distributed transactions need.
// They can be killed as kill -9 does and started again on the same data.
//
// The programs are those of Debian's packages, looked up in PATH and where Debian
// keeps them. The superuser's servers run as their service's own user (postgres,
// mysql, redis), because some refuse to run as root; everybody else's run as the
// caller. A server dies with the process that started it; a directory that
// neither [Server.Close] removed nor [Server.Keep] left is removed when the next server
// is started.
//
// It runs on Linux; elsewhere every start is an error.
package servers
