package cli

import ucli "github.com/urfave/cli/v2"

// The types a command is declared with are those of urfave/cli v2, under this
// package's name so that a tool needs one import.
type (
	// Command declares a command: see the package comment for the fields that
	// this package gives a meaning of its own.
	Command = ucli.Command
	// Flag is any flag.
	Flag = ucli.Flag
	// StringFlag is a flag with a text.
	StringFlag = ucli.StringFlag
	// StringSliceFlag is a text flag that may be given many times, or once with commas.
	StringSliceFlag = ucli.StringSliceFlag
	// PathFlag is a flag with the name of a file or directory.
	PathFlag = ucli.PathFlag
	// BoolFlag is a flag without a value.
	BoolFlag = ucli.BoolFlag
	// IntFlag is a flag with a number.
	IntFlag = ucli.IntFlag
	// Int64Flag is a flag with a 64-bit number.
	Int64Flag = ucli.Int64Flag
	// Uint64Flag is a flag with a number that is not negative.
	Uint64Flag = ucli.Uint64Flag
	// Float64Flag is a flag with a fraction.
	Float64Flag = ucli.Float64Flag
	// DurationFlag is a flag with a time such as 90s or 1h30m.
	DurationFlag = ucli.DurationFlag
)
