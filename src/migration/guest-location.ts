/**
 * What one end of a migration knows of where the guest is: runs, or is stopped by its owner.
 *
 * - `here`: at this end. It is not at the other one.
 * - `elsewhere`: not at this end. A source says so only after the destination has confirmed it.
 * - `unknown`: a source has sent what lets the destination run the guest, and has no answer.
 */
export type GuestLocation = 'here' | 'elsewhere' | 'unknown'
