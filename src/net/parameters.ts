/** The migration parameters that concern connections, by QEMU's names. */
export interface ConnectionParameters {
  /**
   * Connections at one time whose role is not known yet; a further one has the oldest rejected.
   * From 1.
   */
  'x-max-connections': number
  /**
   * Milliseconds until a connection whose role is not known yet is rejected, and for a TLS
   * handshake; 0 is never.
   */
  'x-handshake-timeout': number
  /**
   * Directory of x509 files by the names of QEMU's `tls-creds-x509`: every connection is TLS 1.3,
   * with a certificate on both ends. Empty: plaintext. Applies to the next connection.
   */
  'tls-creds': string
  /** The name that the destination's certificate must have; empty: the host of the URI. */
  'tls-hostname': string
}
