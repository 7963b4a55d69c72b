package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/mattn/go-isatty"
	"github.com/spf13/pflag"
)

// Formats of the log.
const (
	formatAuto = "auto"
	formatText = "text"
	formatJSON = "json"
)

// logFlags say what is logged, and how.
type logFlags struct{ level, format string }

func (f *logFlags) add(flags *pflag.FlagSet) {
	checkedVar(flags, &f.level, "log-level", "info", "`level`: debug, info, warn or error; SIGUSR1 turns debug on, and off again", checkLevel)
	checkedVar(flags, &f.format, "log-format", formatAuto, "`format`: text, json, or auto: text on a terminal, JSON elsewhere", checkFormat)
}

func checkLevel(s string) error {
	if new(slog.Level).UnmarshalText([]byte(s)) != nil {
		return errors.New("want debug, info, warn or error")
	}
	return nil
}

func checkFormat(s string) error {
	if s != formatAuto && s != formatText && s != formatJSON {
		return errors.New("want auto, text or json")
	}
	return nil
}

// logging is the logger of a process that runs. Until ctx ends, a signal turns
// debug on and off.
func (env *environment) logging(ctx context.Context, f *logFlags) *slog.Logger {
	var said slog.Level
	_ = said.UnmarshalText([]byte(f.level)) // the flag was checked
	level := new(slog.LevelVar)
	level.Set(said)
	log := env.newLogger(level, f.format)
	if env.verbose == nil {
		return log
	}
	signals := make(chan os.Signal, 1)
	env.verbose(signals)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
			}
			if level.Level() != said {
				level.Set(said)
			} else {
				level.Set(slog.LevelDebug)
			}
			log.Info("log level changed", "level", level.Level())
		}
	}()
	return log
}

// logger is one for a command that ends soon.
func (env *environment) logger(level slog.Level) *slog.Logger {
	return env.newLogger(level, formatAuto)
}

func (env *environment) newLogger(level slog.Leveler, format string) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: spellDuration}
	if format == formatAuto {
		format = formatJSON
		if f, ok := fileOf(env.err); ok && isatty.IsTerminal(f.Fd()) {
			format = formatText
		}
	}
	if format == formatText {
		return slog.New(slog.NewTextHandler(env.err, opts))
	}
	return slog.New(slog.NewJSONHandler(env.err, opts))
}

// spellDuration has durations written as Go writes them, with their unit, in
// JSON too: there a number of nanoseconds says nothing to a person.
func spellDuration(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}
