"""Classifiers: small networks, images that a dependency ships, and how they are measured.

In reading order: `digits` (the data), `networks` (a residual and a plain convolutional classifier), `evaluation` (per
cent right, cross entropy) with its `pictures`. There is nothing here that the engine knows of: a recipe names it.
"""

from zoo.classify.digits import Digits as Digits
from zoo.classify.evaluation import ClassificationEvaluation as ClassificationEvaluation
from zoo.classify.networks import PlainNet as PlainNet
from zoo.classify.networks import ResidualNet as ResidualNet
