//! A server and clients over real sockets.
