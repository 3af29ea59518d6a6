package main

import "time"

// A Scale says how large and how long everything is.
type Scale struct {
	Name         string        `json:"name"`
	Rounds       int           `json:"rounds"`
	Slice        time.Duration `json:"slice"`         // of a row in a round
	DurableSlice time.Duration `json:"durable_slice"` // the same, where each change waits for the disk
	Checkpoint   time.Duration `json:"checkpoint"`    // Sessile's CheckpointInterval in the tables and the latency runs

	Sessions int `json:"sessions"` // of a table, unless said
	Million  int `json:"million"`  // where a million is meant
	Large    int `json:"large"`    // sessions of 16 KB
	Cold     int `json:"cold"`     // ten times more than memory

	TargetSlice    time.Duration `json:"target_slice"`
	TargetMillion  int           `json:"target_million"`  // in memory
	TargetDisk     int           `json:"target_disk"`     // on disk: targets 5 and 12
	TargetRecovery int           `json:"target_recovery"` // target 13

	LatencyRates    []int         `json:"latency_rates"` // calls a second of each kind
	LatencySessions int           `json:"latency_sessions"`
	LatencySlice    time.Duration `json:"latency_slice"`

	GrowthSessions []int         `json:"growth_sessions"`
	OpenSessions   []int         `json:"open_sessions"`
	Steady         time.Duration `json:"steady"`
	SteadySessions int           `json:"steady_sessions"`
	SteadyRate     int           `json:"steady_rate"` // updates a second
}

// fullScale takes 25 to 30 minutes on two cores, as estimated from the parts of a -quick run.
func fullScale() Scale {
	return Scale{
		Name: "full", Rounds: 7, Slice: 400 * time.Millisecond, DurableSlice: 700 * time.Millisecond, Checkpoint: 5 * time.Second,
		Sessions: 100_000, Million: 1_000_000, Large: 10_000, Cold: 500_000,
		TargetSlice: 500 * time.Millisecond, TargetMillion: 1_000_000, TargetDisk: 1_000_000, TargetRecovery: 200_000,
		LatencyRates: []int{10_000, 50_000}, LatencySessions: 50_000, LatencySlice: 4 * time.Second,
		GrowthSessions: []int{1000, 10_000, 100_000, 1_000_000, 10_000_000},
		OpenSessions:   []int{1000, 10_000, 100_000, 1_000_000},
		Steady:         time.Minute, SteadySessions: 100_000, SteadyRate: 20_000,
	}
}

// quickScale takes about five minutes on two cores, the sum of its parts run one by one.
func quickScale() Scale {
	return Scale{
		Name: "quick", Rounds: 5, Slice: 100 * time.Millisecond, DurableSlice: 250 * time.Millisecond, Checkpoint: time.Second,
		Sessions: 20_000, Million: 100_000, Large: 1000, Cold: 50_000,
		TargetSlice: 150 * time.Millisecond, TargetMillion: 1_000_000, TargetDisk: 200_000, TargetRecovery: 50_000,
		LatencyRates: []int{20_000}, LatencySessions: 10_000, LatencySlice: 1500 * time.Millisecond,
		GrowthSessions: []int{1000, 10_000, 100_000, 1_000_000},
		OpenSessions:   []int{1000, 10_000, 100_000},
		Steady:         10 * time.Second, SteadySessions: 20_000, SteadyRate: 20_000,
	}
}
