export { type ClusterFile, type NodeFile, readCluster } from "./cluster-directory.ts";
