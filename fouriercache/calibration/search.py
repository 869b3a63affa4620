"""Local search over step tables: move one step by one or two, keep what lowers the closed-loop error."""

from __future__ import annotations

from collections.abc import Callable, Iterator

Table = tuple[int, ...]
_MOVES = (1, -1, 2, -2)


def search(error_of: Callable[[Table], float], start: Table, num_steps: int, most_trials: int) -> tuple[Table, float]:
    """Return the best table found from `start`, and its error.

    The movable steps take turns, the first (0) is fixed; a move that lowers the error is kept at once and tried again
    in the same direction. The search ends when no move of any step helps, or when it has asked for the errors of
    `most_trials` tables. It never goes up, and the same start, errors and number of trials give the same answer.

    Args:
        error_of: the closed-loop error of a table; asked once for each.
        most_trials: at least 1.
    """
    errors: dict[Table, float] = {}

    def ask(table: Table) -> float | None:
        if table not in errors:
            if len(errors) == most_trials:
                return None
            errors[table] = error_of(table)
        return errors[table]

    table, error = start, errors.setdefault(start, error_of(start))
    index, unhelpful = 1, 0
    while unhelpful < len(table) - 1:
        improved = False
        for move in _MOVES:
            while (moved := move_step(table, index, move, num_steps)) is not None:
                new = ask(moved)
                if new is None:
                    return table, error
                if new >= error:
                    break
                table, error, improved = moved, new, True
        unhelpful = 0 if improved else unhelpful + 1
        index = index % (len(table) - 1) + 1
    return table, error


def move_step(table: Table, index: int, move: int, num_steps: int) -> Table | None:
    """Return the table with one of its steps moved; None when it would meet or pass another, or leave the trajectory.

    Step 0 does not move.
    """
    moved = (*table[:index], table[index] + move, *table[index + 1 :])
    is_between = moved[index - 1] < moved[index] and (index + 1 == len(moved) or moved[index] < moved[index + 1])
    return moved if index > 0 and is_between and moved[-1] < num_steps else None


def neighbours_of(table: Table, num_steps: int) -> Iterator[Table]:
    """Yield every table that differs from `table` in one step by one."""
    for index in range(1, len(table)):
        for move in (-1, 1):
            moved = move_step(table, index, move, num_steps)
            if moved is not None:
                yield moved
