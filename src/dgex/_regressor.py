"""D-GEX as a scikit-learn regressor."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import _safe_indexing, metadata_routing
from sklearn.utils.validation import check_is_fitted

from dgex import _validation
from dgex._base import GeneRegressorMixin, forget_reliability
from dgex._constraints import CONSTRAINTS
from dgex._learned import learned_parameters, require_whole
from dgex._memory import shortage_in_prediction_explained
from dgex._partition import TargetSets
from dgex._prediction import predict
from dgex._processes import own_devices
from dgex._session import EpochObserver, Session, learned_scaling, open_session, selected_attributes
from dgex._sharding import Layout, devices_in_use
from dgex._signals import interrupts_held_back


class DGEXRegressor(CallbackSupportMixin, GeneRegressorMixin, BaseEstimator):
    """Infer target genes from landmark genes with the multilayer perceptron of D-GEX.

    One network maps the expression of all landmark genes to that of all target genes. The defaults are the method of
    Chen et al. [1]_ with their smallest architecture: tanh units, dropout after every hidden layer, squared error
    summed over targets, gradient descent with momentum, a learning rate that decays when the training error rises, 200
    epochs, and the weights of the epoch with the lowest validation error. :mod:`dgex.recipes` has their other 26
    configurations.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(3000,)
        Units of each hidden layer. The paper uses 1 to 3 layers of 3000, 6000 or 9000 units.
    activation : {"tanh", "relu", "gelu", "silu", "identity", "abs"}, default="tanh"
        Activation of the hidden units. The output is linear. A unit of "abs" is a pair of opposite "relu" units.
    linear_path : bool, default=False
        Whether the output layer sees the landmarks themselves, too, beside the last hidden units.
    start : {"random", "closed_form"}, default="random"
        Weights before the first epoch. "random" are the paper's. With "closed_form", hidden units have random
        orthogonal directions and the output layer is their ridge regression, its penalty and the share of a linear path
        chosen on the (first) validation set. If no epoch is better, that is kept; `max_iter=0` trains none.
    start_profile_noise, start_target_penalties, start_prior, start_centring : bool, default=True
        Whether, in the closed form, each target has a penalty of its own (by leave-one-out errors); whether, as far as
        validation errors are lower, profiles that others tell badly count less, the linear path is drawn to the lasso
        and to the mean of the nearest landmarks, and half of each profile's mean is taken away. With more than 6,000
        profiles, all count alike and targets have one penalty.
    start_epochs : int, default=0
        How many of the `max_iter` epochs only adapt a closed form to `loss`: without weight decay, at a tenth of
        `learning_rate_init` that falls along a cosine of its own ("cosine" only). `fit` ends with them unless they
        lower the (first) validation error by 1 %; later calls then stay gentle unless this or the rate has changed.
    dropout : float, default=0.1
        Probability with which the output of a hidden unit is dropped in a training step, in [0, 1); never that of a
        landmark. The paper compares 0, 0.1 and 0.25. Changing it compiles nothing, except between zero and non-zero.
    loss : {"squared_error", "absolute_error", "huber"}, default="squared_error"
        Loss of one value on standardized expression, summed over targets and averaged over a mini-batch. "huber" is
        squared below one standard deviation and linear above it, with the slope that the square has there.
    solver : {"sgd", "adamw"}, default="sgd"
        "sgd" is gradient descent with classic momentum, v <- momentum v - learning_rate g, w <- w + v; "adamw" is Adam
        with decoupled weight decay.
    learning_rate_init : "auto" or float, default="auto"
        Learning rate of the first epoch. For "sgd", "auto" is the paper's: 5e-4 with one hidden layer, else 3e-4, times
        3 for the weights above the first hidden layer at the paper's sizes; at other sizes each layer's factor follows
        the curvature of the loss. A number is taken as it is, with the factor 3 of the paper ("sgd" only). For "adamw",
        "auto" is 1e-3.
    learning_rate_schedule : {"adaptive", "cosine"}, default="adaptive"
        "adaptive" lowers the learning rate when the training error has risen; "cosine" along half a cosine over
        `max_iter` epochs, down to `learning_rate_min`.
    learning_rate_decay : float, default=0.9
        "adaptive": factor on the learning rate after an epoch at whose end the training error had risen; 1 is none.
    learning_rate_min : float, default=1e-5
        The learning rate is not lowered below this.
    momentum : float, default=0.5
        Momentum of "sgd", in [0, 1).
    weight_decay : float or "auto", default=0.01
        Decoupled weight decay of "adamw", on weights and not on biases. "auto" takes 15 % of them away in an epoch at
        `learning_rate_init`, however many mini-batches it has; later calls take no more in a step.
    beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
        Constants of "adamw".
    batch_size : int, default=200
        Profiles in a mini-batch; all of them if there are fewer.
    max_iter : int, default=200
        Epochs of one call of `fit`; 0 only with `start="closed_form"`.
    standardize : bool, default=True
        Subtract the mean of each gene and divide by its standard deviation plus 1e-3 (the paper's, for logarithms; a
        constant gene by 1), both over the training profiles, on the way in, and the reverse on the way out. Predictions
        are then in the units of `y`. Data that vary by less than about 0.01 should be scaled up first.
    validation_fraction : float, default=0.1
        Fraction of the profiles that `fit` holds out to select the epoch on when it is given no validation data; 0
        turns selection off and keeps the weights of the last epoch.
    monitor_size : int, default=5000
        The training error, by whose rise the learning rate decays, is measured on so many random training profiles.
    early_stopping : bool, default=False
        Stop when the (first) validation error has not fallen by more than `tol` for `n_iter_no_change` epochs.
    n_iter_no_change : int, default=10
        Patience of early stopping, in epochs of one call.
    tol : float, default=1e-4
        Smallest fall of the validation error, below the lowest so far, that early stopping counts as progress.
    warm_start : bool, default=False
        Whether `fit` goes on for `max_iter` more epochs with all that was learned before, and with its learning rate
        unless `learning_rate_init` has changed (a cosine starts anew).
    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the profiles held out, their order in every epoch, and dropout.
    verbose : bool or int, default=False
        Whether to print a line for every epoch.
    compute_dtype : {"float32", "bfloat16"}, default="float32"
        Type of the operands of matrix products. Weights, sums and updates are float32 in either case.
    n_partitions : int, default=1
        Number of independent networks, each with `hidden_layer_sizes` and targets of its own. They are trained together
        in one program and divided among the devices, between which nothing then travels. The paper trains two, because
        of its GPU's memory; 1 infers all targets jointly.
    partition : {"random", "clustered"}, default="random"
        Which targets share a network: random ones in equal numbers, or those with similar expression in the training
        profiles, found by k-means. No cluster has more than twice the average number of targets.
    devices : int, sequence of int, "one" or None, default=None
        Devices to train and predict on: all that JAX sees (None), the first so many (int), or those with the given
        numbers. The units of every layer and the target genes are divided among them. Among several processes
        (:mod:`dgex.distributed`) these are the devices of all. "one" takes a single device, that with the fewest fits
        of this process on it: for a grid search with one candidate per device.
    data_location : {"auto", "device", "host"}, default="auto"
        Whether the profiles are kept on the devices in training, or stay on the host, memory maps among them, and are
        streamed to the devices while these compute. The result is the same to the last bit. "auto" keeps them on the
        devices if they fit, with room for the network; the logger "dgex" tells what it chose.

    Attributes
    ----------
    coefs_ : list of ndarray
        Weights of each layer, float32 of shape (n_units_below, n_units); those of a linear path are the first rows of
        the output layer, of shape (n_landmarks + n_units, n_targets). With several partitions, those of the hidden
        layers have shape (n_partitions, n_units_below, n_units), while the columns of the output layer, (n_units,
        n_targets), belong to the network that `partition_` tells.
    intercepts_ : list of ndarray
        Biases of each layer, float32 of shape (n_units,); with several partitions those of the hidden layers have shape
        (n_partitions, n_units).
    partition_ : ndarray of int of shape (n_targets,)
        The network that infers each target.
    target_reliability_ : Table
        Only after :func:`dgex.interpretation.target_reliability` was asked to store it.
    history_ : list of dict
        One record per epoch: "epoch", "learning_rate", "loss" (over the epoch's mini-batches, per profile, with
        dropout), "train_mae" on the monitored profiles, "validation_mae_0", "validation_mae_1", ... for each validation
        set, and "seconds". Errors are means over profiles and targets on standardized expression, as in the paper's
        tables. Several partitions have records of their own besides ("train_mae_partition_0", ...); "learning_rate" is
        then the mean of theirs. `pandas.DataFrame(model.history_)` makes a table of it.
    loss_curve_ : list of float
        The "loss" of every epoch.
    best_epoch_ : int or ndarray of int of shape (n_partitions,)
        The epoch, counted from 1, whose weights predict (0: a start in closed form); of each network if several.
    best_score_ : float or None
        Its mean absolute error on the validation set (lower is better), on standardized expression; None without
        selection.
    n_iter_ : int
        Epochs trained, over all calls that went on from one another.
    landmark_mean_, landmark_scale_ : ndarray of shape (n_landmarks,)
        Statistics that standardize `X`; zeros and ones without standardization.
    target_mean_, target_scale_ : ndarray of shape (n_targets,)
        Statistics that standardize `y`.
    n_layers_ : int
        Number of layers, input and output included.
    n_outputs_ : int
        Number of target genes.
    target_names_ : ndarray of str or None
        Names of the target genes, if `y` was a DataFrame.
    n_features_in_ : int
        Number of landmark genes.
    feature_names_in_ : ndarray of str
        Names of the landmark genes; only if `X` was a DataFrame.

    See Also
    --------
    KNNGeneRegressor : The gene-based nearest-neighbour baseline of the paper.
    QuantileJointNormalizer : Makes the profiles of several platforms comparable.
    dgex.recipes : The paper's configurations, and one that is more accurate.

    Notes
    -----
    *Departures from the paper.* The last, short mini-batch of an epoch is divided by the full batch size, so that all
    profiles weigh the same. Order and dropout come from other generators. One network infers all targets by default.

    *Precision.* Networks compute in float32, and float32 data stay float32. A profile's prediction is the same to the
    last bit whether it comes alone, in another order or in another batch, on the same devices.

    *Size.* A fitted estimator holds the weights, those of the best epoch of every validation set, and the training
    state from which `partial_fit` and `warm_start` go on.

    References
    ----------
    .. [1] Chen Y, Li Y, Narayan R, Subramanian A, Xie X (2016). Gene expression inference with deep learning.
       Bioinformatics 32(12), 1832-1839.

    Examples
    --------
    >>> from dgex import DGEXRegressor
    >>> from dgex.datasets import make_expression_profiles
    >>> data = make_expression_profiles(n_profiles=300, n_landmarks=20, n_targets=50, random_state=0)
    >>> model = DGEXRegressor(hidden_layer_sizes=(100,), max_iter=20, random_state=0)
    >>> model.fit(data.X[:200], data.y[:200]).predict(data.X[200:]).shape
    (100, 50)

    Select on validation sets of one's own, here two; predictions use the first, `best_model` gives the other:

    >>> X_val, y_val = (data.X[200:250], data.X[250:]), (data.y[200:250], data.y[250:])
    >>> model = model.fit(data.X[:200], data.y[:200], X_val=X_val, y_val=y_val)
    >>> model.best_model(validation_set=1).predict(data.X[250:]).shape
    (50, 50)
    """

    _parameter_constraints = CONSTRAINTS
    _require_whole = require_whole  # of a model that is loaded
    __metadata_request__predict = {"out": metadata_routing.UNUSED}

    def __init__(
        self,
        *,
        hidden_layer_sizes: int | Sequence[int] = (3000,),
        activation: str = "tanh",
        linear_path: bool = False,
        start: str = "random",
        start_profile_noise: bool = True,
        start_target_penalties: bool = True,
        start_prior: bool = True,
        start_centring: bool = True,
        start_epochs: int = 0,
        dropout: float = 0.1,
        loss: str = "squared_error",
        solver: str = "sgd",
        learning_rate_init: float | str = "auto",
        learning_rate_schedule: str = "adaptive",
        learning_rate_decay: float = 0.9,
        learning_rate_min: float = 1e-5,
        momentum: float = 0.5,
        weight_decay: float | str = 0.01,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        batch_size: int = 200,
        max_iter: int = 200,
        standardize: bool = True,
        validation_fraction: float = 0.1,
        monitor_size: int = 5000,
        early_stopping: bool = False,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | int = False,
        compute_dtype: str = "float32",
        n_partitions: int = 1,
        partition: str = "random",
        devices: int | str | Sequence[int] | None = None,
        data_location: str = "auto",
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.linear_path = linear_path
        self.start = start
        self.start_profile_noise = start_profile_noise
        self.start_target_penalties = start_target_penalties
        self.start_prior = start_prior
        self.start_centring = start_centring
        self.start_epochs = start_epochs
        self.dropout = dropout
        self.loss = loss
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.learning_rate_schedule = learning_rate_schedule
        self.learning_rate_decay = learning_rate_decay
        self.learning_rate_min = learning_rate_min
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.standardize = standardize
        self.validation_fraction = validation_fraction
        self.monitor_size = monitor_size
        self.early_stopping = early_stopping
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.compute_dtype = compute_dtype
        self.n_partitions = n_partitions
        self.partition = partition
        self.devices = devices
        self.data_location = data_location

    @with_callbacks
    @_validation.all_or_nothing
    def fit(self, X: Any, y: Any, X_val: Any = None, y_val: Any = None) -> DGEXRegressor:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_profiles, n_landmarks)
            Expression of the landmark genes, usually log2; array, memory map or DataFrame.
        y : array-like of shape (n_profiles, n_targets) or (n_profiles,)
            Expression of the target genes, in any units.
        X_val, y_val : array-like or tuple of array-like, default=None
            Validation data: one set, or a tuple of several, such as held-out arrays and RNA-seq. Every set selects an
            epoch of its own; predictions use the first set's, :meth:`best_model` gives the others. They are
            standardized by the training statistics; standardize each platform yourself where that is not meant
            (:func:`dgex.preprocessing.standardize_platforms`). Without validation data, `validation_fraction` applies.

        Returns
        -------
        self : DGEXRegressor
            The fitted estimator.

        Raises
        ------
        ValueError
            If data or parameters are not as described; the message says what was found, expected, and what to do.
        dgex.TrainingDiverged
            If the training error is no longer finite. An earlier fit is kept.
        MemoryError
            If the devices have not enough memory; the message says how much is needed and what would help.

        Notes
        -----
        A keyboard interrupt ends training with a warning and keeps the best epoch so far, or the start in closed form;
        it is passed on if there is neither yet, and in searches and ensembles, which it ends.

        scikit-learn indexes fit parameters that are as long as `X` together with it: in `GridSearchCV`, pass
        `X_val=(X_val,), y_val=(y_val,)` when a validation set happens to have as many profiles as `X`.
        """
        going_on = self.warm_start and hasattr(self, "_run")
        with open_session(
            self, X, y, X_val, y_val, going_on=going_on, validation_fraction=self.validation_fraction
        ) as session:
            patience = session.patience(self)
            task = self._init_callback_context(max_subtasks=self.max_iter)
            watched = {
                "estimator": self,
                "X": lambda: _safe_indexing(X, session.data.training.rows),
                "y": lambda: _safe_indexing(y, session.data.training.rows),
            }
            task.call_on_fit_task_begin(**watched)
            session.train(self.max_iter, patience, EpochObserver(session, self.verbose, task, watched))
            self._keep(session)
            task.call_on_fit_task_end(**watched, reconstruction_attributes=session.fitted_attributes)
        return self

    @_validation.all_or_nothing
    def partial_fit(self, X: Any, y: Any, X_val: Any = None, y_val: Any = None) -> DGEXRegressor:
        """Train for one more epoch on the given profiles, going on from where training stopped.

        The first call, on an estimator not fitted yet, draws the weights and fixes the standardization; later calls
        keep both, and momentum and learning rate with them. `start_epochs` come first, whatever they gain.

        Parameters
        ----------
        X : array-like of shape (n_profiles, n_landmarks)
            Expression of the landmark genes.
        y : array-like of shape (n_profiles, n_targets) or (n_profiles,)
            Expression of the target genes.
        X_val, y_val : array-like or tuple of array-like, default=None
            Validation data as in :meth:`fit`. The best epoch so far is measured again on them. Without them, nothing is
            held out and predictions use the newest weights.

        Returns
        -------
        self : DGEXRegressor
            The fitted estimator.
        """
        going_on = hasattr(self, "_run")
        with open_session(self, X, y, X_val, y_val, going_on=going_on, validation_fraction=0.0) as session:
            session.train(1, None, EpochObserver(session, self.verbose), judged=False)
            self._keep(session)
        return self

    def predict(self, X: Any, out: np.ndarray | None = None) -> np.ndarray:
        """Infer the target genes.

        Parameters
        ----------
        X : array-like of shape (n_profiles, n_landmarks)
            Expression of the landmark genes, in the order of training.
        out : ndarray of shape (n_profiles, n_targets), default=None
            Where to write the predictions, such as a memory map or a part of a larger array; None for a new array.

        Returns
        -------
        y : ndarray of shape (n_profiles, n_targets) or (n_profiles,)
            Inferred expression in the units of the training targets; computed in float32 and returned as float32 if `X`
            is float32, else as float64. `out` itself if that is given.
        """
        check_is_fitted(self)
        X_array = _validation.validated_profiles(self, X, reset=False)
        _validation.require_single_precision(X_array, "X")
        parameters = learned_parameters(self)
        targets = TargetSets.of(self.partition_)
        if out is None:
            y = np.empty((len(X_array), targets.n_targets), dtype=X_array.dtype)
        else:
            y = _validation.validated_output(out, (len(X_array), targets.n_targets))
        with devices_in_use(self.devices) as devices:
            network, layout = self._config.network, Layout(own_devices(devices), len(targets))
            with shortage_in_prediction_explained(network, layout):
                predict(network, layout, parameters, targets, learned_scaling(self), X_array, y)
        return y[:, 0] if self._y_is_vector and out is None else y

    def best_model(self, validation_set: int = 0) -> DGEXRegressor:
        """The model of the epoch that was best on a given validation set, without training again.

        Parameters
        ----------
        validation_set : int, default=0
            Position of the set in `X_val`.

        Returns
        -------
        model : DGEXRegressor
            A copy whose `coefs_`, `intercepts_`, `best_epoch_` and `best_score_` are those of that epoch.
        """
        check_is_fitted(self)
        if validation_set not in range(len(self._run.best)):
            raise ValueError(
                f"Got validation_set={validation_set!r}, but the model was selected on {len(self._run.best)} "
                "validation sets, numbered from 0. Pass them to fit as tuples X_val=(...), y_val=(...)."
            )
        model = forget_reliability(copy.copy(self))
        vars(model).update(selected_attributes(self._run, TargetSets.of(self.partition_), int(validation_set)))
        return model

    def _keep(self, session: Session) -> None:
        """Store what was learned, unless an interrupt came before there was anything, or is to end other fits, too."""
        run = session.run
        if run.interrupted and (not run.is_a_model or _validation.is_one_of_many_fits()):
            raise KeyboardInterrupt
        with interrupts_held_back() as received:  # another one, or one that came too late to stop training
            attributes = session.fitted_attributes()
            forget_reliability(self)
            self.__dict__.update(attributes)
        if received and _validation.is_one_of_many_fits():
            raise KeyboardInterrupt
        if run.interrupted or received:
            _validation.warn_user(session.what_an_interrupt_has_left())

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coefs_")
