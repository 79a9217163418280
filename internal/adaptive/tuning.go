package adaptive

import "time"

const (
	// Start is the limit with which a model begins.
	Start = 4

	// partialGain and fullGain decide whether a level is better than the one before
	// it, and whether the next step is a whole one.
	partialGain, fullGain = 0.25, 0.8
	// little is the gain that a step down may give up.
	little = 0.15
	// climbFactor is such that two steps from below the knee stay below 1.3 times
	// the knee: the first is taken for full only if it ends less than 4 % beyond.
	climbFactor, carefulFactor = 1.2, 1.08
	probeFactor, probeDown     = 1.1, 0.88
	refusedFactor              = 1.03
	cutFactor                  = 0.75
	leastDown                  = 0.5
	downFactor                 = 0.8
	// coarse is the distance of a level that is not needed from one that is too low,
	// at which the search downwards ends, and fine the same upwards.
	coarse = 1.15
	// fine is the distance of the good from the bad level at which the search ends.
	fine = 1.06
	// rampPart of the limit is what it rises by from one sample to the next.
	rampPart = 0.08

	leastWindow = 500 * time.Millisecond
	leastCalls  = 4
	// A cohort of a step is of the calls that begin in cohortPart of a latency, and
	// compared when wholePart of them have ended.
	cohortPart  = 1.0
	leastCohort = 400 * time.Millisecond
	firstCohort = time.Second
	wholePart   = 0.95
	// A step is measured for up to patience spans and patientWindow while it is in
	// doubt.
	patience      = 4
	patientWindow = 3 * time.Second
	// Up to smallLimit a step in doubt goes on, up to twice the level.
	smallLimit = 16
	probeEvery = 8 * time.Second
	probeSpans = 4
	// maxConfirmed bounds by how many more times of that a refused probe is put off.
	maxConfirmed = 2
	// What was measured at a level is forgotten in so many seconds, and from level to
	// level of a climb this part of it is kept.
	baseMemory = 10
	poolKept   = 0.8
	// outage is for how long nothing succeeds before it is one.
	outage = 3 * time.Second
	// drift is the change of the time per work that is looked into at once.
	drift = 0.15
	// A refusal costs one of a credit, which calls that begin earn: one for so many,
	// up to maxCredit. Without credit there is no step up; nor before the pause that
	// was asked for has passed so many times.
	creditCalls, maxCredit, firstCredit = 80, 20, 3
	pauses                              = 30
	// congestedPart is the part of the calls that may fail without a cut.
	congestedPart = 0.01
	// learnedPart is how much of that comes to be tolerated by itself.
	learnedPart = 0.002
	// strayLimit is the limit from which single refusals do not end a step up.
	strayLimit = 20
	// unusedSamples in a row end a step up: there is not the work for it.
	unusedSamples = 3
	// A share of calls that fail which is the same, up to sameShare times, at muchLower
	// of the limit shows that it has not to do with the limit, if it is no more than
	// independentPart. A share is known from knownFailures on.
	independentPart, sameShare = 0.3, 2.0
	muchLower                  = 0.8
	knownFailures              = 4
	// toleranceTime is the memory of the share that is tolerated, in seconds.
	toleranceTime = 10
	// fineRefused is fine where calls were refused.
	fineRefused = 1.02
)
