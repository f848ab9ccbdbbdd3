//! The configurations that are shipped.

use std::path::Path;

use burn::backend::Flex;
use burn::module::Module;
use sfm_trainer::config;
use sfm_trainer::network::NetworkConfig;
use sfm_trainer::nn::Base;
use sfm_trainer::pretrain::PretrainConfig;
use sfm_trainer::recipe::Recipe;

fn shipped(name: &str) -> Recipe {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/train");
    let recipe: Recipe = config::read(&folder.join(name)).unwrap();
    recipe.pretrain.check(&recipe.network).unwrap();
    recipe
}

#[test]
fn the_full_size_configuration_is_the_published_one() {
    let recipe = shipped("mesa.toml");
    assert_eq!(recipe.network, NetworkConfig::default());
    let PretrainConfig { workers, validation_windows, .. } = recipe.pretrain.clone();
    let published = PretrainConfig { workers, validation_windows, ..Default::default() };
    assert_eq!(recipe.pretrain, published);
}

#[test]
fn the_built_in_network_is_small() {
    let base: Base<Flex> = shipped("default.toml").network.base().init(&Default::default());
    assert!(base.num_params() < 500_000, "{} parameters", base.num_params());
}
