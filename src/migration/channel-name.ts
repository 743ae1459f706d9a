/** The connections of a migration by their role. */
export type ChannelName = 'main' | 'preempt'
