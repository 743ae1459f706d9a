/**
 * What one end of a migration knows about the location of the guest, running or stopped by its
 * owner.
 *
 * - `here`: at this end, and not at the other one.
 * - `elsewhere`: not at this end. A source reports it only after the destination has confirmed it.
 * - `unknown`: a source has sent what lets the destination run the guest, and has no answer.
 */
export type GuestLocation = 'here' | 'elsewhere' | 'unknown'
