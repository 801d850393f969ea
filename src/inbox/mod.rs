//! What lies in `requests/`: inotify hints, the scan that is the truth, quiet time.
