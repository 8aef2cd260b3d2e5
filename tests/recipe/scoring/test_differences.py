from dataclasses import replace

from compresskit.recipe.scoring.differences import differences


def test_differences_are_paired_with_the_best_baseline_and_with_the_student_alone(rows):
    best, alone = differences(rows)
    assert (best.than, best.each, best.better) == ("linear", (0.25, 1.0, 1.0), 3)
    assert str(best) == "student distilled minus linear: +0.750 dB on average (+0.250 to +1.000), better on 3 of 3"
    assert str(alone) == (
        "student distilled minus student alone: +0.250 dB on average (-0.250 to +0.500), better on 2 of 3"
    )


def test_without_values_per_sample_the_means_are_compared(rows):
    means = [replace(row, per_sample={}) for row in rows]
    assert str(differences(means)[0]) == "student distilled minus linear: +0.750 dB on average"


def test_without_metrics_or_a_distilled_student_there_is_nothing_to_compare(rows):
    assert differences([replace(row, metrics={}, per_sample={}) for row in rows]) == []
    assert differences(rows[:4]) == []


def test_of_a_metric_that_improves_as_it_falls_the_lowest_baseline_is_the_best(losses):
    mean, alone = differences(losses)
    assert (mean.than, mean.gain, mean.better) == ("mean", 1.5, 2)
    assert (alone.mean, alone.gain, alone.better) == (-0.25, 0.25, 1)
    assert str(alone).endswith("-0.2500 nats on average (-0.5000 to +0.0000), better on 1 of 2, equal on 1")
