"""Classification of small images: networks, data that a dependency ships, and scores. Recipes name them.

- `digits`: handwritten digits from the scikit-learn wheel.
- `networks`: a residual network to teach, a plain one to learn.
- `evaluation`: accuracy and cross entropy of a classifier.
- `pictures`: a picture of the images that classifiers mistake.
"""

from zoo.classify.digits import Digits as Digits
from zoo.classify.evaluation import ClassificationEvaluation as ClassificationEvaluation
from zoo.classify.networks import PlainNet as PlainNet
from zoo.classify.networks import ResidualNet as ResidualNet
