//! What the services' containers print, merged by time.
